"""One inversion, from numbers to numbers: the one path that the command line, the facade, plugins and tests all take.

Nothing here touches a file (but Lightning's checkpoints and loggers, if asked for) or knows YAML. :mod:`lit_invert.fit` reads the
inputs before and writes the results after.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor, nn

from .callbacks import ClipToBounds, KeepBest, LogToTensorBoard, RecordHistory, StopOnDivergence, StopWhenFinished
from .datamodule import InversionData
from .driving import LOG_EVERY, METRICS, WATCHED, build_early_stopping, build_trainer, choose_monitor, computing, fitting
from .errors import ConfigError, suggest
from .extensions import Solver
from .losses import LossTerm, Misfit, Prior
from .module import InversionModule
from .objective import Objective
from .observations import Observations
from .parameters import ParameterSpace, ParameterTable
from .problem import InversionProblem, Loss
from .problem_objective import ProblemObjective
from .results import InversionResult, InversionStatus
from .settings import InversionSettings
from .simulators import Simulator
from .solvers import AUTO, SOLVERS, BoundedSolver, Stopping, choose_solver
from .starting import draw_starts, find_start
from .surrogates.base import Forcing, FrozenSurrogate
from .transforms import ScaledTransform, Transform


def default_terms(settings: InversionSettings, extra: Sequence[LossTerm] = ()) -> list[LossTerm]:
    """Return misfit and prior as the settings ask for them, and the extra terms.

    An extra term with the name of one of ours takes its place.

    Raises:
        ConfigError: If two extra terms share a name.
    """
    ours: list[LossTerm] = [
        Misfit(
            settings.target_variable,
            settings.use_multi_output_loss,
            settings.output_weights,
            settings.use_uncertainty,
            settings.sigma_floor,
        ),
        Prior(weight=settings.lambda_prior),
    ]
    names = [term.name for term in extra]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"`loss_terms` has {names.count(name)} terms named {name!r}; keep one.")
    return [term for term in ours if term.name not in names] + list(extra)


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
    if _converts_weights(trainer or {}):
        surrogate = copy.deepcopy(surrogate)  # the caller's own stays as it is
    problem = build_problem(surrogate, table, forcing, fit, settings, terms, transform)
    scored = None if select is None else _tensors(select, surrogate.spec.warmup_days)
    place = surrogate.spec.output_names.index(settings.target_variable)
    has_select = scored is not None and bool(scored[1][..., place].any())
    monitor = choose_monitor(settings.early_stopping.monitor, has_select)
    solver, why = _choose_solver(solver, settings, problem)
    start = time.perf_counter()
    module, how = _module(problem, solver, settings, scored if has_select else None, resumes=ckpt_path is not None)
    clipping = ClipToBounds() if settings.clip_raw_params.enabled else None
    best, history, divergence, finish = KeepBest(monitor), RecordHistory(clipping), StopOnDivergence(), StopWhenFinished()
    stopping = build_early_stopping(settings.early_stopping, monitor)
    own = [clipping, divergence, best, history, LogToTensorBoard(clipping), finish, stopping]
    hooked = [c for c in own if c is not None] + list(callbacks)
    driver = build_trainer(
        settings,
        trainer or {},
        hooked,
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
    theta = best.theta if best.theta is not None else module.theta.detach()
    status, message = _outcome(driver, divergence, finish, driver.early_stopping_callback)
    message = "; ".join(part for part in (message, how, why) if part)
    return _result(module, theta.cpu(), status, message, history, best, clipping is not None, monitor, seconds)


def _converts_weights(arguments: Mapping[str, Any]) -> bool:
    """Say whether the Trainer's precision changes the type of the module itself, as `64-true` does and `bf16-mixed` does not."""
    precision = str(arguments.get("precision") or "32-true")
    return not precision.startswith("32") and not precision.endswith("mixed")


def build_problem(
    surrogate: FrozenSurrogate,
    table: ParameterTable,
    forcing: Forcing,
    fit: Observations,
    settings: InversionSettings,
    terms: Sequence[LossTerm] = (),
    transform: type[Transform] = ScaledTransform,
) -> InversionProblem:
    """Join surrogate, parameters, forcing, observed days and terms into the problem that solvers see.

    The arguments are those of :func:`invert`. Days of the surrogate's warm-up are taken out of the mask.

    Raises:
        ConfigError: If the target is not an output of the surrogate, or no observed day is left.
    """
    target, outputs = settings.target_variable, surrogate.spec.output_names
    if target not in outputs:
        raise ConfigError(f"`inversion.target_variable`: {target!r} is not an output of the surrogate.{suggest(target, outputs)}")
    for name in settings.output_weights or ():
        if name not in outputs:
            raise ConfigError(f"`inversion.output_weights`: {name!r} is not an output of the surrogate.{suggest(name, outputs)}")
    dtype = torch.get_default_dtype()
    space = ParameterSpace(table, transform(surrogate.static_scaler, copy.deepcopy(table.bounds).to(dtype)))
    observed, mask = _tensors(fit, surrogate.spec.warmup_days, settings.use_mask)
    if not bool(mask[..., outputs.index(target)].any()):
        raise ConfigError(
            f"no observed day of {target!r} is left for the fit: the mask is empty after "
            f"{surrogate.spec.warmup_days} warm-up days. Check the mask, the quality threshold and the split."
        )
    sigma = None if fit.sigma is None else torch.as_tensor(fit.sigma, dtype=dtype).unsqueeze(0)
    return InversionProblem(
        surrogate,
        space,
        _batched(forcing, dtype),
        observed,
        mask,
        default_terms(settings, terms),
        None if sigma is None else torch.where(mask, sigma, 1.0),
        partial(
            Simulator,
            kernel=settings.kernel,
            arithmetic=settings.arithmetic,
            threads=settings.kernel_threads,
        ),
    )


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
) -> tuple[InversionModule, str]:
    """Return the module at its start, and how that start was found."""
    theta, how = problem.space.to_theta(problem.space.prior).unsqueeze(0), ""
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
            starts = draw_starts(problem.space, settings.starts, torch.Generator().manual_seed(torch.initial_seed()))
            theta, how = find_start(objective, build, starts, settings.target_variable, settings.coarse_start)
    target = settings.target_variable
    return InversionModule(problem, theta, lambda p, _: build(p, objective), settings.lr, target, select, objective), how


def _tensors(observations: Observations, warmup_days: int, use_mask: bool = True) -> tuple[Tensor, Tensor]:
    """Return values and the mask of the days that count, as (1, T, V)-dim tensors."""
    values = torch.as_tensor(observations.values, dtype=torch.get_default_dtype()).unsqueeze(0)
    mask = torch.tensor(observations.mask).unsqueeze(0) if use_mask else torch.isfinite(values)
    mask[:, :warmup_days] = False
    return values, mask


def _batched(forcing: Forcing, dtype: torch.dtype) -> Forcing:
    if isinstance(forcing, dict):
        return {name: value.to(dtype).unsqueeze(0) for name, value in forcing.items()}
    return forcing.to(dtype).unsqueeze(0)


def _outcome(
    driver: Trainer, divergence: StopOnDivergence, finish: StopWhenFinished, stopping: EarlyStopping | None
) -> tuple[InversionStatus, str]:
    """Say how the fit ended, as a status and the numbers behind it."""
    step = driver.global_step
    if divergence.reason is not None:
        return InversionStatus.DIVERGED, f"{divergence.reason}; the best iterate before that is kept"
    if driver.interrupted:
        return InversionStatus.INTERRUPTED, f"stopped by the user after {step} iterations"
    if finish.reason is not None:
        return InversionStatus.CONVERGED if finish.converged else InversionStatus.STOPPED, finish.reason
    if stopping is not None and stopping.stopped_epoch > 0:
        return InversionStatus.EARLY_STOPPED, (
            f"{WATCHED.get(stopping.monitor, stopping.monitor)} did not fall for {stopping.patience} epochs; "
            f"stopped after {step} iterations"
        )
    if driver.max_steps == step:
        return InversionStatus.STEP_LIMIT, f"all {step} iterations were used"
    return InversionStatus.STOPPED, f"the Trainer stopped after {step} iterations"


@torch.no_grad()
def _result(
    module: InversionModule,
    theta: Tensor,
    status: InversionStatus,
    message: str,
    history: RecordHistory,
    best: KeepBest,
    clips: bool,
    monitor: str,
    seconds: float,
) -> InversionResult:
    """Evaluate prior and optimum once more, on the CPU, and collect what was found."""
    problem = module.problem.cpu()
    space, table = problem.space, problem.space.table
    member = 0 if best.value is None else int(best.value.argmin())
    theta = theta[member : member + 1].to(space.prior.dtype)
    before, after = problem(space.to_theta(space.prior).unsqueeze(0)), problem(theta)
    physical = space.to_physical(theta)[0].double()
    if clips:  # float32 may stand a last bit outside
        physical = table.bounds.clip(physical)
    frame = history.frame()
    return InversionResult(
        status=status,
        message=message,
        table=table,
        optimum=torch.where(table.fixed, table.prior, physical),
        optimum_scaled=after.evaluation.scaled[0].double(),
        prior_scaled=before.evaluation.scaled[0].double(),
        simulated_prior=before.evaluation.simulated[0].double().numpy(),
        simulated_optimum=after.evaluation.simulated[0].double().numpy(),
        loss_prior=_numbers(before),
        loss_optimum=_numbers(after),
        history=frame,
        iterations=len(frame),
        best_iteration=int(best.iteration[member]) if best.iteration is not None else len(frame),
        monitor=METRICS[monitor],
        seconds=seconds,
        target=module.target,
    )


def _numbers(loss: Loss) -> dict[str, float]:
    return {
        "loss/total": loss.total.item(),
        **{f"loss/{name}": value.item() for name, value in loss.terms.items()},
        **{f"weighted/{name}": value.item() for name, value in loss.weighted.items()},
    }
