"""What a run was made with, so that its numbers can be made again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("lit-invert", "torch", "lightning", "numpy", "pandas")


def collect_provenance(
    *, command: str, seed: int, sha256: Mapping[str, str], plugins: Mapping[str, str], kernel: str = "none"
) -> dict[str, Any]:
    """Return the content of provenance.json.

    Args:
        command: The command line, as the user gave it.
        seed: Seed of all random numbers.
        sha256: Hashes by what they are of: weights, data, config, parameters.
        plugins: Distribution and version of every plugin, by its name.
        kernel: What ran the surrogate: `native`, `numba`, `torch`, or `none` for PyTorch itself.

    Returns:
        These and the versions of Python and of the packages that numbers depend on. Nothing about the machine or its folders.
    """
    return {
        "command": command,
        "seed": seed,
        "sha256": dict(sha256),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "plugins": dict(plugins),
        "kernel": kernel,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
