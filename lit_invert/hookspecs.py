"""Every extension point of lit-invert.

A plugin is an installed package with an entry point in the group `lit_invert`; its module is imported once, when a command starts.
Hooks named `register_*` return lists and are called once, before the config is read; names must be unique over all plugins. Nothing
depends on the order in which plugins load: what is registered is sorted by name, and events go to the plugins in order of theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from .extensions import Check, Command, ConfigSection, ReportSection, RunInfo, Solver
    from .losses import LossTerm
    from .process import ProcessModel
    from .surrogates.loaders import SurrogateLoader
    from .tables import DataReader
    from .transforms import Transform

PROJECT = "lit_invert"
hookspec = pluggy.HookspecMarker(PROJECT)
#: Decorator for the functions of a plugin.
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_loss_terms() -> list[type[LossTerm]]:  # type: ignore[empty-body]
    """Return loss term classes, each with a unique `name`.

    A config picks them under `loss_terms:` by class name or class path. The total is summed in order of the terms' names.
    """


@hookspec
def register_transforms() -> list[type[Transform]]:  # type: ignore[empty-body]
    """Return constraint transforms between theta and physical parameters, each with a unique `name`.

    A config picks one as `constraints.transform`.
    """


@hookspec
def register_surrogate_loaders() -> list[SurrogateLoader]:  # type: ignore[empty-body]
    """Return loaders that build a network from a spec; a spec picks one as `loader`."""


@hookspec
def register_process_models() -> list[ProcessModel]:  # type: ignore[empty-body]
    """Return process models that re-simulate an inversion's result; a config picks one as `resimulate`."""


@hookspec
def register_solvers() -> list[Solver]:  # type: ignore[empty-body]
    """Return solvers; a config picks one as `inversion.solver`."""


@hookspec
def register_callbacks(run: RunInfo) -> list[Callback]:  # type: ignore[empty-body]
    """Return Lightning callbacks for this fit.

    Called once for each fit, after the config was read and before the Trainer is built; return an empty list to stay out of it.
    """


@hookspec
def register_config_sections() -> list[ConfigSection]:  # type: ignore[empty-body]
    """Return top-level blocks of the config that belong to the plugin; the keys must be unique."""


@hookspec
def register_data_readers() -> list[DataReader]:  # type: ignore[empty-body]
    """Return readers of tower files; the first by name that can read the file does."""


@hookspec
def register_checks() -> list[Check]:  # type: ignore[empty-body]
    """Return checks that run before an inversion; a `fail` stops it, an `advice` is printed and stored."""


@hookspec
def register_commands() -> list[Command]:  # type: ignore[empty-body]
    """Return commands of `lit-invert`; a name that is taken is an error."""


@hookspec
def register_report_sections() -> list[ReportSection]:  # type: ignore[empty-body]
    """Return sections of the report, shown in order of their titles after our own."""


@hookspec
def run_started(run: RunInfo) -> None:
    """Called when a run's inputs have been read and checked, before its first iteration."""


@hookspec
def run_finished(run: RunInfo) -> None:
    """Called when all results of a run have been written."""


@hookspec
def run_failed(run: RunInfo, error: Exception) -> None:
    """Called when a run that had started ended in an error, before the error is shown."""
