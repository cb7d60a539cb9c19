"""The small things that a plugin returns from its hooks, as plain data.

Larger ones have a class of their own: :class:`lit_invert.losses.LossTerm`, :class:`lit_invert.transforms.Transform`,
surrogate loaders, process models and data readers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from .objective import Objective
    from .problem import InversionProblem
    from .sites import Site
    from .solvers import BoundedSolver, Stopping
    from .trust import Trust

#: Version of the hooks. A plugin states the one that it was written for as `HOOK_API = 1` in its module.
HOOK_API = 1


@dataclass(frozen=True)
class RunInfo:
    """One run, as plugins see it: which, where, with what. It never holds a `test` day."""

    command: str
    """The command, e.g. `fit`."""
    name: str
    """Name of the run, the folder below the logs folder."""
    folder: Path | None
    """Folder of the results; None when nothing is written."""
    seed: int
    """Seed of all random numbers."""
    sections: Mapping[str, Any] = field(default_factory=dict)
    """Config sections of plugins, by key."""
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Distribution and version of every loaded plugin, by plugin name."""
    has_many_sites: bool = False
    """Whether the run fits the sites of a catalogue: its folder then holds tables over all of them, and no fluxes of one."""
    runs: Path | None = None
    """Folder of all runs of this name, whether or not it is there yet; None where no run has a folder."""


@dataclass(frozen=True)
class Solver:
    """A way to move theta: builds an optimiser that takes one step an iteration.

    Exactly one of the two builders is given: for an optimiser that wants gradients and a learning rate, or for one that asks an
    objective for what it needs, keeps the bounds itself and knows when it has finished.
    """

    name: str
    build: Callable[[list[nn.Parameter], float], Optimizer] | None = None
    """From the parameters and the learning rate to the optimiser."""
    summary: str = ""
    build_over: Callable[[list[nn.Parameter], Objective, Stopping], BoundedSolver] | None = None
    """From the parameters, the objective and the tolerances to the optimiser."""

    def __post_init__(self) -> None:
        """Check that there is one builder.

        Raises:
            ConfigError: If there are two, or none.
        """
        if (self.build is None) == (self.build_over is None):
            found = "none" if self.build is None else "both"
            raise ConfigError(f"solver {self.name!r}: expected one of `build` and `build_over`, found {found}.")


@dataclass(frozen=True)
class ConfigSection:
    """A block of the config that belongs to a plugin; its values reach the plugin as `RunInfo.sections[key]`."""

    key: str
    settings: type
    """A dataclass with typed fields and attribute docstrings; every field has a default."""


@dataclass(frozen=True)
class Verdict:
    """What a check found."""

    check: str
    outcome: Literal["pass", "advice", "fail"]
    message: str
    value: float | None = None
    threshold: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """What lies behind the value, as plain JSON values; `table`, a list of rows, is shown where there is room."""


@dataclass(frozen=True)
class Check:
    """A question asked of surrogate, parameters and site."""

    name: str
    run: Callable[..., Verdict | None]
    """Looks at the problem (at its prior), the site (never at a `test` day) and the run, in this order; it may leave the last ones
    out. Returns None where the question does not arise."""
    when: Literal["fit", "validation"] = "fit"
    """`fit`: before every inversion, so it must be quick; `validation`: when somebody asks whether a surrogate is fit to be
    inverted."""

    def ask(self, problem: InversionProblem, site: Site, run: RunInfo) -> Verdict | None:
        """Ask the question, with as many of the arguments as it must be given; what has a default keeps it."""
        return self.run(*(problem, site, run)[: self._count()])

    def _count(self) -> int:
        parameters = inspect.signature(self.run).parameters.values()
        if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
            return 3
        by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return sum(parameter.default is parameter.empty for parameter in by_place)


@dataclass(frozen=True)
class Command:
    """A command of `lit-invert`."""

    name: str
    summary: str
    run: Callable[[list[str], Trust], int]
    """From the arguments after the command's name, and what the user trusts, to the exit code."""


@dataclass(frozen=True)
class ReportSection:
    """A section of the report, made from the results folder alone."""

    title: str
    render: Callable[[Path], str]
    """From the results folder to HTML (escaped text and inline pictures; no script, no address outside); empty: no section."""
