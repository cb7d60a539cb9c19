"""What can go wrong, said well.

Every fault that a user can mend is a :class:`LitInvertError`: one line that says what was expected, what was found, where, and
what to do. The command line prints that line and leaves with exit code 2. Any other exception is a fault of ours and keeps its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class LitInvertError(Exception):
    """Something the user can mend; printed as one line, without a traceback."""


class ConfigError(LitInvertError, ValueError):
    """A key, type, value or path of the configuration is wrong."""


class ParameterTableError(LitInvertError, ValueError):
    """The table of static parameters is malformed or contradicts itself."""


class ObservationError(LitInvertError, ValueError):
    """The observations cannot be read, converted or split."""


class ForcingError(LitInvertError, ValueError):
    """A driver is missing, incomplete or outside its physical range."""


class SurrogateError(LitInvertError, ValueError):
    """The surrogate's artefact or its spec is missing, damaged or does not fit."""


class ShapeError(LitInvertError, ValueError):
    """Two arrays that belong together differ in shape."""


class KernelError(LitInvertError):
    """A compiled kernel cannot be built or used here; the plain path can."""


class TrustError(LitInvertError):
    """An artefact or an import could execute code and was not trusted by the user."""


class ProcessModelError(LitInvertError):
    """A process model outside of Python failed, took too long, or wrote something else than expected."""


class ResultsError(LitInvertError):
    """A run's folder is missing, incomplete or cannot be written."""


class PluginError(LitInvertError):
    """A plugin failed.

    The message names the plugin, its distribution and version, the hook and the cause.

    Args:
        plugin: Name of the plugin, e.g. `carbon`.
        distribution: Distribution and version, e.g. `lit-invert-carbon 0.1.0`.
        hook: Hook or place in which it failed.
        cause: What happened, as text.
        is_installed: Whether it is an installed plugin, which can be disabled, or a class that the config names.
    """

    def __init__(self, plugin: str, distribution: str, hook: str, cause: str, is_installed: bool = True) -> None:
        self.plugin, self.distribution, self.hook, self.cause = plugin, distribution, hook, cause
        disable = f"disable the plugin with LIT_INVERT_DISABLE_PLUGINS={plugin}"
        way_out = disable if is_installed else "take it out of the config"
        super().__init__(f"plugin {plugin!r} ({distribution}) failed in {hook}: {cause} Mend it, or {way_out}.")


class DivergenceError(LitInvertError, ArithmeticError):
    """The loss is not finite; carries the last finite parameters.

    Args:
        message: What was not finite, and where.
        step: Iteration at which it happened.
    """

    def __init__(self, message: str, step: int) -> None:
        self.step = step
        super().__init__(message)


def suggest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, and which names there are.

    Args:
        name: The unknown name.
        known: Names that would have been right.

    Returns:
        Text that starts with a space, or an empty string when nothing is known.

    Example:
        >>> suggest("nep_", ["gpp", "nep"])
        " Did you mean 'nep'? Known: gpp, nep."
        >>> suggest("wood", ["gpp", "nep"])
        ' Known: gpp, nep.'
    """
    names = sorted(known)
    if not names:
        return ""
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"{hint} Known: {', '.join(names)}."


def first_names(names: Sequence[str], most: int = 4) -> str:
    """List the first few names for a message, and say how many more there are.

    Example:
        >>> first_names(["pmax", "lue"]), first_names(["a", "b", "c"], most=2)
        ("'pmax', 'lue'", "'a', 'b' and 1 more")
    """
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
