"""One inversion, from numbers to numbers: the one path that the command line, the facade, plugins and tests all take.

Nothing here touches a file (but Lightning's checkpoints and loggers, if asked for) or knows YAML. :mod:`lit_invert.fit` reads the
inputs before and writes the results after.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
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
from .driving import DEFAULT_ITERATIONS, LOG_EVERY, build_trainer, choose_monitor, computing, fitting
from .errors import ConfigError
from .extensions import Solver
from .losses import LossTerm, Prior
from .module import InversionModule
from .objective import Objective
from .observations import Observations
from .outcomes import results_at
from .parameters import ParameterTable
from .posterior.weight import derive_prior_weight
from .problem import InversionProblem
from .problem_objective import ProblemObjective
from .results import InversionResult
from .settings import DERIVED, InversionSettings
from .solvers import BoundedSolver, Stopping
from .start_journal import Journal, judge
from .start_points import StartPoints, place_starts
from .starting import find_starts, run_all
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
    weighed = _weigh_prior(problem, settings)
    select = stack_select(records, problem, settings.target_variable)
    monitor = choose_monitor(settings.early_stopping.monitor, select is not None)
    solver, why = pick_solver(solver, settings, problem)
    start = time.perf_counter()
    starts = None
    if solver.build_over is not None and ckpt_path is None:
        starts = place_starts(problem.space, [record.starts for record in records], settings, torch.initial_seed())
    module, how, journal = _module(problem, solver, settings, select, monitor, starts)
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
    reasons = ["; ".join(part for part in (start_of, why, weighed) if part) for start_of in how]
    share = seconds / len(records)
    endings = [watch.ending(module, driver, i, reason, monitor, share) for i, reason in enumerate(reasons)]
    theta = watch.best.theta if watch.best.theta is not None else module.theta.detach()
    problem, theta = module.problem.cpu(), theta.cpu()
    results = results_at(problem, theta, tables, endings, module.target, watch.clipping is not None)
    if journal is not None:
        results = [replace(results[0], starts=journal.table(problem, theta[0], results[0], select))]
    return results


def _weigh_prior(problem: InversionProblem, settings: InversionSettings) -> str:
    """Give the prior the weight that the noise of the data asks for, where the settings want that, and say which in words."""
    if settings.lambda_prior != DERIVED:
        return ""
    with computing(settings.cpu_threads):
        weight, words = derive_prior_weight(problem, settings.target_variable)
    next(term for term in problem.loss_terms if isinstance(term, Prior)).weight = weight
    return words


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
    monitor: str,
    starts: StartPoints | None,
) -> tuple[InversionModule, list[str], Journal | None]:
    """Return the module at its start, how the start of each member was found, and what became of several starts of one site."""
    members, target = len(problem.mask), settings.target_variable
    theta, how = problem.space.to_theta(problem.space.priors).expand(members, -1), [""] * members
    if solver.build is not None:
        return InversionModule(problem, theta, solver.build, settings.lr, target, select), how, None
    assert solver.build_over is not None
    objective = ProblemObjective(problem, settings.clip_raw_params.enabled)
    stopping = Stopping(**asdict(settings.convergence))
    build_over, journal = solver.build_over, None

    def build(parameters: list[nn.Parameter], over: Objective) -> BoundedSolver:
        return build_over(parameters, over, stopping)

    if starts is not None:
        journal = Journal(starts.origins, starts.theta[0]) if members == 1 and settings.starts > 1 else None
        with computing(settings.cpu_threads):
            if settings.halving or settings.starts == 1:
                theta, how = find_starts(objective, build, starts.theta, target, settings.coarse_start, journal)
            else:
                rank = _rank(problem, target, select if monitor == "select" else None, settings.starts)
                steps = settings.max_iters or DEFAULT_ITERATIONS
                theta, how = run_all(objective, build, starts.theta, rank, steps, journal)
    return InversionModule(problem, theta, lambda p, _: build(p, objective), settings.lr, target, select, objective), how, journal


def _rank(problem: InversionProblem, target: str, select: tuple[Tensor, Tensor] | None, starts: int) -> Callable[[Tensor], Tensor]:
    """Return what ranks the ends of so many starts of each site: the RMSE on the `select` days, or the loss without them."""
    sites = len(problem.mask)
    rows = None if sites == 1 else torch.arange(sites).repeat_interleave(starts)

    def rank(theta: Tensor) -> Tensor:
        loss, rmse = judge(problem, theta, target, select, rows)
        return loss if select is None else rmse

    return rank
