"""One inversion, from numbers to numbers: the one path that the command line, the facade, plugins and tests all take.

Nothing here touches a file (but Lightning's checkpoints and loggers, if asked for) or knows YAML. :mod:`lit_invert.fit` reads the
inputs before and writes the results after.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor, nn

from .assembly import Record, build_problem, stack_observed
from .callbacks import ClipToBounds, KeepBest, LogToTensorBoard, RecordHistory, StopOnDivergence, StopWhenFinished
from .datamodule import InversionData
from .driving import LOG_EVERY, METRICS, WATCHED, build_early_stopping, build_trainer, choose_monitor, computing, fitting
from .errors import ConfigError, suggest
from .extensions import Solver
from .losses import LossTerm
from .module import InversionModule
from .objective import Objective
from .observations import Observations
from .parameters import ParameterTable
from .problem import InversionProblem, Loss
from .problem_objective import ProblemObjective
from .results import InversionResult, InversionStatus
from .settings import InversionSettings
from .solvers import AUTO, SOLVERS, BoundedSolver, Stopping, choose_solver
from .starting import draw_all_starts, find_starts
from .surrogates.base import Forcing, FrozenSurrogate
from .transforms import ScaledTransform, Transform


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
    select = _select(records, problem, settings)
    monitor = choose_monitor(settings.early_stopping.monitor, select is not None)
    solver, why = _choose_solver(solver, settings, problem)
    start = time.perf_counter()
    module, how = _module(problem, solver, settings, select, resumes=ckpt_path is not None)
    watch = _Watch.of(settings, monitor, len(records))
    driver = build_trainer(
        settings,
        trainer or {},
        [*watch.callbacks, *callbacks],
        logger,
        checkpoints,
        monitor,
        resumes=ckpt_path is not None,
        log_every=LOG_EVERY if module.objective is None else 1,
    )
    _check_strategy(driver)
    with fitting(settings.cpu_threads):
        driver.fit(module, InversionData(driver.max_steps), ckpt_path=ckpt_path, weights_only=True)
    seconds = time.perf_counter() - start
    tables = [table if record.prior is None else table.with_prior(record.prior.double()) for record in records]
    reasons = ["; ".join(part for part in (start_of, why) if part) for start_of in how]
    return _results(module, driver, watch, tables, reasons, monitor, seconds)


@dataclass(frozen=True)
class _Watch:
    """Our own callbacks of one fit."""

    clipping: ClipToBounds | None
    divergence: StopOnDivergence
    best: KeepBest
    history: RecordHistory
    finish: StopWhenFinished
    stopping: EarlyStopping | None

    @classmethod
    def of(cls, settings: InversionSettings, monitor: str, sites: int) -> _Watch:
        clipping = ClipToBounds() if settings.clip_raw_params.enabled else None
        stopping = build_early_stopping(settings.early_stopping, monitor) if sites == 1 else None
        return cls(clipping, StopOnDivergence(), KeepBest(monitor), RecordHistory(clipping), StopWhenFinished(), stopping)

    @property
    def callbacks(self) -> list[Callback]:
        """In the order in which they act."""
        each = [
            self.clipping,
            self.divergence,
            self.best,
            self.history,
            LogToTensorBoard(self.clipping),
            self.finish,
            self.stopping,
        ]
        return [callback for callback in each if callback is not None]


def _select(records: Sequence[Record], problem: InversionProblem, settings: InversionSettings) -> tuple[Tensor, Tensor] | None:
    """Return the observed fluxes of the `select` days and their mask, (S, T, V), or None where there are none of the target."""
    observations = [record.select for record in records if record.select is not None]
    if not observations:
        return None
    if len(observations) < len(records):
        raise ConfigError(
            f"{len(observations)} of {len(records)} sites have `select` days. Fit those without in a batch of their own."
        )
    spec = problem.surrogate.spec
    observed, mask = stack_observed(observations, problem.observed.shape[1], spec.warmup_days)
    return (observed, mask) if bool(mask[..., spec.output_names.index(settings.target_variable)].any(1).all()) else None


def _converts_weights(arguments: Mapping[str, Any]) -> bool:
    """Say whether the Trainer's precision changes the type of the module itself, as `64-true` does and `bf16-mixed` does not."""
    precision = str(arguments.get("precision") or "32-true")
    return not precision.startswith("32") and not precision.endswith("mixed")


def _check_strategy(driver: Trainer) -> None:
    launcher = driver.strategy.launcher
    if isinstance(launcher, _MultiProcessingLauncher):
        raise ConfigError(
            "`trainer.strategy` fits in processes whose callbacks, and the best iterate with them, do not come back. "
            "Use `ddp` in a script, or one device."
        )


def _choose_solver(solver: Solver | None, settings: InversionSettings, problem: InversionProblem) -> tuple[Solver, str]:
    """Return the solver, and why it was chosen where nobody named it."""
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


def _check_solver(solver: Solver, settings: InversionSettings, problem: InversionProblem) -> None:
    """Check that a solver can do what the settings ask.

    Raises:
        ConfigError: If it cannot follow bounds that name other parameters, or start from several places.
    """
    if solver.build is not None and settings.starts > 1:
        raise ConfigError(f"`inversion.starts` is {settings.starts}, but {solver.name!r} starts from one place. Use solver: auto.")
    if solver.build_over is not None and settings.clip_raw_params.enabled and not problem.space.is_box:
        raise ConfigError(
            f"solver {solver.name!r} moves each parameter inside bounds of its own, but the table has bounds that name other "
            "parameters. Use `constraints.transform: sigmoid`, which keeps them by itself, or solver: adam."
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


def _outcome(module: InversionModule, driver: Trainer, watch: _Watch, member: int) -> tuple[InversionStatus, str]:
    """Say how the fit of a member ended, as a status and the numbers behind it."""
    step, reason = driver.global_step, watch.divergence.reasons.get(member)
    if reason is not None:
        return InversionStatus.DIVERGED, f"{reason}; the best iterate before that is kept"
    if driver.interrupted:
        return InversionStatus.INTERRUPTED, f"stopped by the user after {step} iterations"
    solver = module.optimizers(use_pl_optimizer=False)
    if isinstance(solver, BoundedSolver) and not bool(solver.running[member]):
        state, sentence = solver.describe(member)
        return InversionStatus.CONVERGED if state.verb == "converged" else InversionStatus.STOPPED, sentence
    stopping = driver.early_stopping_callback
    if stopping is not None and stopping.stopped_epoch > 0:
        return InversionStatus.EARLY_STOPPED, (
            f"{WATCHED.get(stopping.monitor, stopping.monitor)} did not fall for {stopping.patience} epochs; "
            f"stopped after {step} iterations"
        )
    if driver.max_steps == step:
        return InversionStatus.STEP_LIMIT, f"all {step} iterations were used"
    return InversionStatus.STOPPED, f"the Trainer stopped after {step} iterations"


@torch.no_grad()
def _results(
    module: InversionModule,
    driver: Trainer,
    watch: _Watch,
    tables: Sequence[ParameterTable],
    how: Sequence[str],
    monitor: str,
    seconds: float,
) -> list[InversionResult]:
    """Evaluate priors and optima once more, on the CPU, and collect what was found of each member."""
    problem, best = module.problem.cpu(), watch.best
    space = problem.space
    theta = (best.theta if best.theta is not None else module.theta.detach()).cpu().to(space.prior.dtype)
    before, after = problem(space.to_theta(space.priors).expand_as(theta)), problem(theta)
    physical = space.to_physical(theta).double()
    if watch.clipping is not None:  # float32 may stand a last bit outside
        physical = tables[0].bounds.clip(physical)
    results = []
    for i, length in enumerate(_lengths(problem)):
        status, message = _outcome(module, driver, watch, i)
        history = watch.history.frame(i)
        steps = _steps(module, i, len(history))
        results.append(
            InversionResult(
                status=status,
                message="; ".join(part for part in (message, how[i]) if part),
                table=tables[i],
                optimum=torch.where(tables[i].fixed, tables[i].prior, physical[i]),
                optimum_scaled=after.evaluation.scaled[i].double(),
                prior_scaled=before.evaluation.scaled[i].double(),
                simulated_prior=before.evaluation.simulated[i, :length].double().numpy(),
                simulated_optimum=after.evaluation.simulated[i, :length].double().numpy(),
                loss_prior=_numbers(before, i),
                loss_optimum=_numbers(after, i),
                history=history.iloc[:steps],
                iterations=steps,
                best_iteration=int(best.iteration[i]) if best.iteration is not None else steps,
                monitor=METRICS[monitor],
                seconds=seconds / len(theta),
                target=module.target,
            )
        )
    return results


def _lengths(problem: InversionProblem) -> list[int]:
    """Return the length of each member's record."""
    days = problem.days * torch.arange(1, problem.days.shape[1] + 1)
    lengths: list[int] = days.amax(-1).expand(len(problem.mask)).tolist()
    return lengths


def _steps(module: InversionModule, member: int, iterations: int) -> int:
    """Return how many iterations a member took part in: one that has finished waits for the others."""
    solver = module.optimizers(use_pl_optimizer=False)
    if not isinstance(solver, BoundedSolver) or bool(solver.running[member]):
        return iterations
    return min(iterations, int(solver.steps[member]) + 1)


def _numbers(loss: Loss, member: int) -> dict[str, float]:
    return {
        "loss/total": loss.total[member].item(),
        **{f"loss/{name}": value[member].item() for name, value in loss.terms.items()},
        **{f"weighted/{name}": value[member].item() for name, value in loss.weighted.items()},
    }
