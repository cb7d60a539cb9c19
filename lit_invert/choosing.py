"""Which solver moves the parameters, and whether it can do what the settings ask."""

from __future__ import annotations

from .errors import ConfigError, suggest
from .extensions import Solver
from .problem import InversionProblem
from .settings import InversionSettings
from .solvers import AUTO, SOLVERS, choose_solver


def pick_solver(solver: Solver | None, settings: InversionSettings, problem: InversionProblem) -> tuple[Solver, str]:
    """Return the solver, and why it was chosen where nobody named it.

    Args:
        solver: The solver, where the caller has it; the one of ours that the settings name when omitted.
        settings: How to invert.
        problem: The problem.

    Raises:
        ConfigError: If there is none of that name, or it cannot do what the settings ask.
    """
    why = ""
    if solver is None:
        name = settings.solver
        if name == AUTO:
            free = int((~problem.space.fixed).sum())
            counts = [term for term in problem.loss_terms if term.weight > 0]
            name, why = choose_solver(free, any(term.has_residuals for term in counts), problem.space.is_box)
            why = f"{name} was chosen for {why}"
        solvers = {solver.name: solver for solver in SOLVERS}
        if name not in solvers:
            raise ConfigError(f"`inversion.solver`: {name!r} is not one of ours.{suggest(name, [*solvers, AUTO])}")
        solver = solvers[name]
    _check_solver(solver, settings, problem)
    return solver, why


def check_starts(solver: Solver, settings: InversionSettings) -> None:
    """Check that a solver can start from as many places as the settings ask.

    Raises:
        ConfigError: If it starts from one.
    """
    if solver.build is not None and settings.starts > 1:
        raise ConfigError(f"`inversion.starts` is {settings.starts}, but {solver.name!r} starts from one place. Use solver: auto.")


def _check_solver(solver: Solver, settings: InversionSettings, problem: InversionProblem) -> None:
    """Check that a solver can do what the settings ask.

    Raises:
        ConfigError: If it cannot follow bounds that name other parameters, or start from several places.
    """
    check_starts(solver, settings)
    if solver.build_over is not None and settings.clip_raw_params.enabled and not problem.space.is_box:
        raise ConfigError(
            f"solver {solver.name!r} moves each parameter inside bounds of its own, but the table has bounds that name other "
            "parameters. Use `constraints.transform: sigmoid`, which keeps them by itself, or solver: adam."
        )
