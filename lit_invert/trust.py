"""Whose code may run: the policy for imports named in a config or spec, and for files with code.

A config and a spec are data that people pass on, so neither may decide by itself which code runs. A
class path is imported only from this package, its installed plugins, torch, torchmetrics and
lightning, and from packages that the user named with `--allow-import`. A file that can execute code
when it is opened (TorchScript, `torch.export`) is opened only if the user named it with `--trust`.
Parts of torch and lightning that fetch, unpickle or start other code stay closed whatever the user
allows.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from .errors import TrustError

T = TypeVar("T")

#: Packages that a class path may name without a word from the user; installed plugins come on top.
ALLOWED: tuple[str, ...] = ("lit_invert", "torch", "torchmetrics", "lightning")

#: Closed although the package is allowed: each can fetch, unpickle, compile or start other code.
DENIED: tuple[str, ...] = (
    "lightning.fabric.cli",
    "lightning.pytorch.cli",
    "torch.classes",
    "torch.distributed",
    "torch.export",
    "torch.fx",
    "torch.hub",
    "torch.jit",
    "torch.load",
    "torch.multiprocessing",
    "torch.onnx",
    "torch.ops",
    "torch.package",
    "torch.serialization",
    "torch.utils",
)


@dataclass(frozen=True)
class Trust:
    """What the user allowed beyond the policy, by `--trust FILE` and `--allow-import PKG`.

    Example:
        >>> Trust().is_import_allowed("torch.nn.GRU"), Trust().is_import_allowed("torch.hub.load")
        (True, False)
        >>> Trust(imports=frozenset({"my_models"})).is_import_allowed("my_models.Net")
        True
    """

    files: frozenset[Path] = frozenset()
    """Files that may execute code when they are opened."""
    imports: frozenset[str] = frozenset()
    """Packages or modules that a class path may name, beside those of the policy."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Every package that a class path may name, in order of its name."""
        return tuple(sorted({*ALLOWED, *plugin_packages(), *self.imports}))

    def is_import_allowed(self, dotted: str) -> bool:
        """Say whether a path may be imported: in an allowed package, not denied, no private part.

        Args:
            dotted: A full path, e.g. `my_models.lstm.Net`.
        """
        parts = dotted.split(".")
        public = all(part.isidentifier() and not part.startswith("_") for part in parts)
        return public and self._is_open(dotted)

    def _is_open(self, dotted: str) -> bool:
        return any(_is_within(dotted, p) for p in self.packages) and not any(_is_within(dotted, d) for d in DENIED)

    def check_import(self, dotted: str, where: str) -> None:
        """Refuse a dotted path that the policy does not allow.

        Args:
            dotted: A full path, e.g. `my_models.lstm.Net`.
            where: Who names it: file and key, for the error.

        Raises:
            TrustError: If the policy does not allow it; the message says what would.
        """
        if self.is_import_allowed(dotted):
            return
        package = dotted.split(".")[0]
        if package in self.packages:
            raise TrustError(
                f"{where}: {dotted!r} is private or can run other code, and is never imported by "
                f"name. Name a public class of {package!r} instead."
            )
        raise TrustError(
            f"{where}: importing {dotted!r} is not allowed; allowed are "
            f"{', '.join(self.packages)}. If you trust that package, add "
            f"`--allow-import {package}`."
        )

    def import_class(self, dotted: str, base: type[T], where: str) -> type[T]:
        """Import a class by its full path, under the policy.

        Args:
            dotted: A full path to a class at the top of its module.
            base: What it must be a subclass of.
            where: Who names it: file and key, for the error.

        Returns:
            The class.

        Raises:
            TrustError: If the policy refuses the path or the place where its class is
                defined, or if it names no subclass of `base`.
        """
        self.check_import(dotted, where)
        module, _, name = dotted.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise TrustError(f"{where}: {dotted!r} cannot be imported ({error}). Check its spelling, or install it.") from error
        if not (inspect.isclass(found) and issubclass(found, base)):
            raise TrustError(f"{where}: {dotted!r} is not a subclass of {base.__module__}.{base.__qualname__}.")
        if not self._is_open(f"{found.__module__}.{found.__qualname__}"):
            raise TrustError(
                f"{where}: {dotted!r} is defined in {found.__module__!r}, which is not allowed. Name a class of an allowed package."
            )
        return found

    def is_file_trusted(self, path: Path) -> bool:
        """Say whether the user named this file with `--trust`."""
        return path.resolve() in {file.resolve() for file in self.files}

    def check_file(self, path: Path, kind: str) -> None:
        """Refuse a file that can execute code and that the user did not name.

        Args:
            path: The file.
            kind: What it is, e.g. `a TorchScript archive`.

        Raises:
            TrustError: If the file is not trusted.
        """
        if not self.is_file_trusted(path):
            raise TrustError(
                f"{path}: is {kind}, which can execute code when opened. If you trust its author, add `--trust {path}`."
            )


@cache
def plugin_packages() -> frozenset[str]:
    """Return the top-level packages of the installed plugins, without importing them."""
    return frozenset(point.module.split(".")[0] for point in entry_points(group="lit_invert"))


def _is_within(dotted: str, package: str) -> bool:
    return dotted == package or dotted.startswith(f"{package}.")
