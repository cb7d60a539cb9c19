"""The registry: everything registered, by name, and the plugins to tell of a run's events."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING

import pluggy

from .. import builtin, hookspecs
from ..errors import LitInvertError
from ..extensions import Check, Command, ConfigSection, ReportSection, RunInfo, Solver
from ..guards import GuardedTerm, PluginInfo, check_transform
from ..losses import LossTerm
from ..parameters import ParameterSpace
from ..transforms import Transform
from .discovery import GROUP, distribution_of, find_plugins
from .registration import KINDS, call, call_list, collect, instances_of, register

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from ..process import ProcessModel
    from ..surrogates.loaders import SurrogateLoader
    from ..tables import DataReader


@dataclass(frozen=True)
class Registry:
    """Everything that plugins and lit-invert itself have registered, by name and sorted by it."""

    plugins: tuple[PluginInfo, ...]
    """The loaded plugins: our own, `builtin`, then the others by name."""
    loss_terms: Mapping[str, type[LossTerm]]
    transforms: Mapping[str, type[Transform]]
    surrogate_loaders: Mapping[str, SurrogateLoader]
    process_models: Mapping[str, ProcessModel]
    solvers: Mapping[str, Solver]
    config_sections: Mapping[str, ConfigSection]
    data_readers: Mapping[str, DataReader]
    checks: Mapping[str, Check]
    commands: Mapping[str, Command]
    report_sections: Mapping[str, ReportSection]
    _manager: pluggy.PluginManager = field(repr=False)
    _owners: Mapping[type, PluginInfo] = field(repr=False)

    def versions(self) -> dict[str, str]:
        """Return distribution and version of every plugin by name, as they are stored with each run."""
        return {plugin.name: plugin.label for plugin in self.plugins}

    def callbacks(self, run: RunInfo) -> list[Callback]:
        """Return the Lightning callbacks that plugins want in this fit, in order of the plugins' names.

        Raises:
            PluginError: If a plugin fails or returns anything but callbacks.
        """
        from lightning.pytorch.callbacks import Callback

        kind = instances_of("register_callbacks", "callback", Callback)
        return [callback for plugin in self.plugins for callback in call_list(self._manager, plugin, kind, run=run)]

    def run_started(self, run: RunInfo) -> None:
        """Tell every plugin that a run starts."""
        for plugin in self.plugins:
            call(self._manager, plugin, "run_started", run=run)

    def run_finished(self, run: RunInfo) -> None:
        """Tell every plugin that all results are written."""
        for plugin in self.plugins:
            call(self._manager, plugin, "run_finished", run=run)

    def run_failed(self, run: RunInfo, error: Exception) -> None:
        """Tell every plugin that a run failed; a plugin that fails at it is a warning, so that it cannot hide the error."""
        for plugin in self.plugins:
            try:
                call(self._manager, plugin, "run_failed", run=run, error=error)
            except LitInvertError as second:
                warnings.warn(str(second), stacklevel=2)

    def owner(self, kind: type) -> PluginInfo | None:
        """Return the plugin that a class comes from, None where it is ours.

        A class that no plugin registered, such as one given by class path, belongs to the distribution of its package.
        """
        package = kind.__module__.partition(".")[0]
        if package == "lit_invert":
            return None
        if kind in self._owners:
            return self._owners[kind]
        of_package = [plugin for plugin in self.plugins if plugin.package == package]
        return of_package[0] if of_package else distribution_of(package)

    def guard_terms(self, terms: Iterable[LossTerm]) -> list[LossTerm]:
        """Return the terms with those that are not ours under watch, see :class:`~lit_invert.guards.GuardedTerm`."""
        owned = [(term, self.owner(type(term))) for term in terms]
        return [term if plugin is None else GuardedTerm(term, plugin) for term, plugin in owned]

    def check_transform(self, space: ParameterSpace) -> None:
        """Check that a transform that is not ours brings the prior back.

        Raises:
            PluginError: If it does not.
        """
        plugin = self.owner(type(space.transform))
        if plugin is not None:
            check_transform(space, plugin)


@functools.cache
def load_plugins(group: str = GROUP) -> Registry:
    """Find, import and check all installed plugins, once a process.

    Args:
        group: Group of entry points.

    Returns:
        What they and lit-invert itself register; `load_plugins.cache_clear()` makes the next call look again.

    Raises:
        PluginError: If a plugin cannot be imported or registers something wrong.
    """
    return build_registry(find_plugins(group))


def build_registry(plugins: Iterable[PluginInfo] = ()) -> Registry:
    """Register our own plugin and the given ones, and collect what they return.

    Args:
        plugins: Imported plugins, in any order.

    Raises:
        PluginError: If a plugin implements an unknown hook, or a hook fails or returns something wrong.

    Example:
        >>> sorted(build_registry().loss_terms)
        ['boundary', 'misfit', 'prior']
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    known = [PluginInfo("builtin", builtin, "lit-invert", _own_version()), *sorted(plugins, key=lambda plugin: plugin.name)]
    for plugin in known:
        register(manager, plugin)
    owners: dict[type, PluginInfo] = {}
    collected = {kind.hook.removeprefix("register_"): collect(manager, known, kind, owners) for kind in KINDS}
    return Registry(tuple(known), **collected, _manager=manager, _owners=owners)


def _own_version() -> str:
    try:
        return metadata.version("lit-invert")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return ""
