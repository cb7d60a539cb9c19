"""Installed plugins: entry points of the group `lit_invert`, each imported by itself so that a failing import has a name.

`LIT_INVERT_DISABLE_PLUGINS=a,b` leaves plugins out without importing them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from importlib import metadata

from ..errors import PluginError, suggest
from ..guards import PluginInfo, attributed

GROUP = "lit_invert"
DISABLE = "LIT_INVERT_DISABLE_PLUGINS"


def find_plugins(group: str = GROUP) -> list[PluginInfo]:
    """Import the installed plugins that are not disabled, in order of their names.

    Raises:
        PluginError: If an import fails, or two distributions use one name.
    """
    points = sorted(metadata.entry_points(group=group), key=lambda point: point.name)
    _check_unique(points)
    disabled = _read_disabled([point.name for point in points])
    return [_import(point) for point in points if point.name not in disabled]


def distribution_of(package: str) -> PluginInfo:
    """Return what is known of a top-level package that is no plugin."""
    names = metadata.packages_distributions().get(package)
    if not names:
        return PluginInfo(package, None, is_plugin=False)
    return PluginInfo(package, None, names[0], metadata.version(names[0]), is_plugin=False)


def _check_unique(points: Iterable[metadata.EntryPoint]) -> None:
    labels: dict[str, list[str]] = {}
    for point in points:
        labels.setdefault(point.name, []).append(_of_point(point, None).label)
    for name, distributions in labels.items():
        if len(distributions) > 1:
            both = " and ".join(sorted(distributions))
            raise PluginError(name, both, "entry points", "both distributions use this name; uninstall one of them.")


def _read_disabled(names: Iterable[str]) -> set[str]:
    """Return the plugins to leave out; a name that is not installed is only warned of, since job scripts travel."""
    disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")} - {""}
    for name in sorted(disabled.difference(names)):
        warnings.warn(f"{DISABLE}: no plugin {name!r} is installed.{suggest(name, names)}", stacklevel=2)
    return disabled


def _of_point(point: metadata.EntryPoint, module: object) -> PluginInfo:
    distribution = point.dist
    if distribution is None:
        return PluginInfo(point.name, module)
    return PluginInfo(point.name, module, distribution.name, distribution.version)


def _import(point: metadata.EntryPoint) -> PluginInfo:
    with attributed(_of_point(point, None), f"import of {point.value!r}"):
        return _of_point(point, point.load())
