"""One inversion, from numbers to numbers: the one path that the command line, the facade, plugins and tests all take.

Nothing here touches a file (but Lightning's checkpoints and loggers, if asked for) or knows YAML. :mod:`lit_invert.fit` reads the
inputs before and writes the results after.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor, nn

from .assembly import Record, build_problem, stack_select
from .choosing import pick_solver
from .datamodule import InversionData
from .driving import LOG_EVERY, build_trainer, choose_monitor, computing, fitting
from .errors import ConfigError
from .extensions import Solver
from .losses import LossTerm
from .module import InversionModule
from .objective import Objective
from .observations import Observations
from .outcomes import results_at
from .parameters import ParameterTable
from .problem import InversionProblem
from .problem_objective import ProblemObjective
from .results import InversionResult
from .settings import InversionSettings
from .solvers import BoundedSolver, Stopping
from .starting import draw_all_starts, find_starts
from .surrogates.base import Forcing, FrozenSurrogate
from .transforms import ScaledTransform, Transform
from .watch import Watch


def invert(
    surrogate: FrozenSurrogate,
    table: ParameterTable,
    forcing: Forcing,
    fit: Observations,
    settings: InversionSettings,
    *,
    select: Observations | None = None,
    terms: Sequence[LossTerm] = (),
    transform: type[Transform] = ScaledTransform,
    solver: Solver | None = None,
    trainer: Mapping[str, Any] | None = None,
    logger: Any = False,
    callbacks: Sequence[Callback] = (),
    checkpoints: Path | None = None,
    ckpt_path: str | Path | None = None,
) -> InversionResult:
    """Invert the static parameters of a frozen surrogate against observed fluxes.

    Args:
        surrogate: The frozen surrogate.
        table: The parameters, in the order of the surrogate's input.
        forcing: Physical drivers, a (T, F)-dim tensor, or a dict of such tensors for windowed surrogates.
        fit: Observed fluxes of the days that the loss may use, in the order of the surrogate's outputs.
        settings: How to invert.
        select: Observed fluxes of the days that early stopping and the choice of the best iterate may use.
        terms: Loss terms beside misfit and prior.
        transform: The map between the optimiser's coordinates and physical parameters.
        solver: What moves the parameters; the one of ours that the settings name when omitted.
        trainer: Arguments of Lightning's Trainer, passed on as they are.
        logger: A Lightning logger, several, or False.
        callbacks: Callbacks beside ours.
        checkpoints: Folder for Lightning's checkpoints; none are written without it.
        ckpt_path: Checkpoint to go on from.

    Returns:
        The best monitored iterate after clipping, with what it simulates and how it was reached.

    Raises:
        ConfigError: If settings contradict each other.
        DivergenceError: If the loss is not finite at the prior.
    """
    record = Record(forcing, fit, select)
    (result,) = invert_sites(
        surrogate,
        table,
        [record],
        settings,
        terms=terms,
        transform=transform,
        solver=solver,
        trainer=trainer,
        logger=logger,
        callbacks=callbacks,
        checkpoints=checkpoints,
        ckpt_path=ckpt_path,
    )
    return result


def invert_sites(
    surrogate: FrozenSurrogate,
    table: ParameterTable,
    records: Sequence[Record],
    settings: InversionSettings,
    *,
    terms: Sequence[LossTerm] = (),
    transform: type[Transform] = ScaledTransform,
    solver: Solver | None = None,
    trainer: Mapping[str, Any] | None = None,
    logger: Any = False,
    callbacks: Sequence[Callback] = (),
    checkpoints: Path | None = None,
    ckpt_path: str | Path | None = None,
) -> list[InversionResult]:
    """Invert the parameters of several sites at once, each as if it were alone.

    The sites share one batch: every iteration simulates those that still run in one pass. Early stopping, which looks at one
    number, is left out where there are several; solvers that know when they have converged stop each site by itself.

    Args:
        surrogate: The frozen surrogate.
        table: The parameters, in the order of the surrogate's input.
        records: What each site brings; either all or none have `select` days.
        settings: How to invert.
        terms: Loss terms beside misfit and prior.
        transform: The map between the optimiser's coordinates and physical parameters.
        solver: What moves the parameters; the one of ours that the settings name when omitted.
        trainer: Arguments of Lightning's Trainer, passed on as they are.
        logger: A Lightning logger, several, or False.
        callbacks: Callbacks beside ours.
        checkpoints: Folder for Lightning's checkpoints; none are written without it.
        ckpt_path: Checkpoint to go on from.

    Returns:
        The result of each site.

    Raises:
        ConfigError: If settings contradict each other.
        DivergenceError: If the loss of a site is not finite at its prior.
    """
    if _converts_weights(trainer or {}):
        surrogate = copy.deepcopy(surrogate)  # the caller's own stays as it is
    problem = build_problem(surrogate, table, records, settings, terms, transform)
    select = stack_select(records, problem, settings.target_variable)
    monitor = choose_monitor(settings.early_stopping.monitor, select is not None)
    solver, why = pick_solver(solver, settings, problem)
    start = time.perf_counter()
    module, how = _module(problem, solver, settings, select, resumes=ckpt_path is not None)
    watch = Watch.of(settings, monitor, len(records))
    driver = build_trainer(
        settings,
        trainer or {},
        [*watch.callbacks, *callbacks],
        logger,
        checkpoints,
        monitor,
        resumes=ckpt_path is not None,
        log_every=LOG_EVERY if module.objective is None else 1,
        ends_epochs=module.objective is not None,
    )
    check_strategy(driver)
    with fitting(settings.cpu_threads):
        driver.fit(module, InversionData(driver.max_steps), ckpt_path=ckpt_path, weights_only=True)
    seconds = time.perf_counter() - start
    tables = [table if record.prior is None else table.with_prior(record.prior.double()) for record in records]
    reasons = ["; ".join(part for part in (start_of, why) if part) for start_of in how]
    share = seconds / len(records)
    endings = [watch.ending(module, driver, i, reason, monitor, share) for i, reason in enumerate(reasons)]
    theta = watch.best.theta if watch.best.theta is not None else module.theta.detach()
    return results_at(module.problem.cpu(), theta.cpu(), tables, endings, module.target, watch.clipping is not None)


def _converts_weights(arguments: Mapping[str, Any]) -> bool:
    """Say whether the Trainer's precision changes the type of the module itself, as `64-true` does and `bf16-mixed` does not."""
    precision = str(arguments.get("precision") or "32-true")
    return not precision.startswith("32") and not precision.endswith("mixed")


def check_strategy(driver: Trainer) -> None:
    """Refuse a strategy from whose processes nothing comes back.

    Raises:
        ConfigError: If it is one.
    """
    launcher = driver.strategy.launcher
    if isinstance(launcher, _MultiProcessingLauncher):
        raise ConfigError(
            "`trainer.strategy` fits in processes whose callbacks, and the best iterate with them, do not come back. "
            "Use `ddp` in a script, or one device."
        )


def _module(
    problem: InversionProblem,
    solver: Solver,
    settings: InversionSettings,
    select: tuple[Tensor, Tensor] | None,
    resumes: bool,
) -> tuple[InversionModule, list[str]]:
    """Return the module at its start, and how the start of each member was found."""
    members = len(problem.mask)
    theta, how = problem.space.to_theta(problem.space.priors).expand(members, -1), [""] * members
    if solver.build is not None:
        return InversionModule(problem, theta, solver.build, settings.lr, settings.target_variable, select), how
    assert solver.build_over is not None
    objective = ProblemObjective(problem, settings.clip_raw_params.enabled)
    stopping = Stopping(**asdict(settings.convergence))
    build_over = solver.build_over

    def build(parameters: list[nn.Parameter], over: Objective) -> BoundedSolver:
        return build_over(parameters, over, stopping)

    if not resumes:
        with computing(settings.cpu_threads):
            starts = draw_all_starts(problem.space, members, settings.starts, torch.initial_seed())
            theta, how = find_starts(objective, build, starts, settings.target_variable, settings.coarse_start)
    target = settings.target_variable
    return InversionModule(problem, theta, lambda p, _: build(p, objective), settings.lr, target, select, objective), how
