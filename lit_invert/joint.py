"""A joint inversion: sites that share parameters are fitted together.

What the Trainer moves is the shared vector; the sites' own parameters follow from it in each iteration. Hierarchical parameters
are fitted in rounds of sites and population instead, which no Trainer drives. With `trainer.strategy: ddp` each process takes every
n-th site, and all take the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, distributed, nn

from .assembly import Record, build_problem, stack_select
from .choosing import pick_solver
from .datamodule import InversionData
from .driving import METRICS, build_trainer, choose_monitor, computing, fitting
from .errors import ConfigError
from .extensions import Solver
from .inversion import check_strategy
from .losses import LossTerm
from .outcomes import Ending, results_at
from .parameters import ParameterTable
from .problem import InversionProblem
from .regional import SharedInversionModule
from .results import InversionResult, InversionStatus
from .settings import InversionSettings
from .sharing import HierarchicalFit, SharedFit, SharedObjective, SharingPlan, SharingSettings, fit_plan, plan_sharing
from .sharing.objective import priors_of
from .solvers import Stopping
from .surrogates.base import FrozenSurrogate
from .transforms import ScaledTransform, Transform
from .watch import Watch


@dataclass(frozen=True)
class JointResult:
    """What a joint inversion found."""

    sites: list[InversionResult]
    """The result of each site, with the parameters that are its own and those that it shares."""
    problem: InversionProblem
    """The problem of all sites."""
    plan: SharingPlan
    """How they share parameters."""
    fitted: SharedFit
    """Shared vector, parameters of all sites, and the population that hierarchical ones come from."""


def invert_jointly(
    surrogate: FrozenSurrogate,
    table: ParameterTable,
    records: Sequence[Record],
    groups: Sequence[str],
    settings: InversionSettings,
    sharing: SharingSettings,
    *,
    terms: Sequence[LossTerm] = (),
    transform: type[Transform] = ScaledTransform,
    solver: Solver | None = None,
    trainer: Mapping[str, Any] | None = None,
    logger: Any = False,
    callbacks: Sequence[Callback] = (),
    checkpoints: Path | None = None,
    ckpt_path: str | Path | None = None,
) -> JointResult | None:
    """Invert sites that share parameters.

    Args:
        surrogate: The frozen surrogate.
        table: The parameters, in the order of the surrogate's input.
        records: What each site brings; either all or none have `select` days.
        groups: The group of each site.
        settings: How to invert.
        sharing: Which parameters are shared, and how.
        terms: Loss terms beside misfit and prior.
        transform: The map between the optimiser's coordinates and physical parameters.
        solver: What moves the shared vector; the one of ours that the settings name when omitted.
        trainer: Arguments of Lightning's Trainer, passed on as they are.
        logger: A Lightning logger, several, or False.
        callbacks: Callbacks beside ours.
        checkpoints: Folder for Lightning's checkpoints; none are written without it.
        ckpt_path: Checkpoint to go on from.

    Returns:
        The result; None in the second and further processes of a run on several devices.

    Raises:
        ConfigError: If settings contradict each other.
        DivergenceError: If the loss of a site is not finite at its prior.
    """
    problem = build_problem(surrogate, table, records, settings, terms, transform)
    plan = plan_sharing(table, sharing, groups)
    _check_bounds(problem, plan)
    tables = [table if record.prior is None else table.with_prior(record.prior.double()) for record in records]
    if len(plan.hierarchical):
        fitted, ending = _fit_population(problem, plan, settings)
        endings = [ending] * len(records)
    else:
        select = stack_select(records, problem, settings.target_variable)
        monitor = choose_monitor(settings.early_stopping.monitor, select is not None)
        watch = Watch.of(settings, monitor, clips=False)
        solver, why = pick_solver(solver, settings, problem)
        driver = build_trainer(
            settings,
            trainer or {},
            [*watch.callbacks, *callbacks],
            logger,
            checkpoints,
            monitor,
            resumes=ckpt_path is not None,
            ends_epochs=solver.build is None,
        )
        check_strategy(driver)
        if driver.world_size > plan.sites:
            raise ConfigError(
                f"`trainer.devices`: {driver.world_size} processes for {plan.sites} sites. Use no more than there are sites."
            )
        found = _fit_shared(problem, plan, settings, solver, why, select, driver, watch, ckpt_path)
        if found is None:
            return None
        fitted, endings = found
    clips = settings.clip_raw_params.enabled
    results = results_at(problem, fitted.theta.cpu(), tables, endings, settings.target_variable, clips)
    return JointResult(results, problem, plan, fitted)


def _check_bounds(problem: InversionProblem, plan: SharingPlan) -> None:
    """Refuse a shared parameter that is bounded by a fixed one whose prior differs from site to site.

    Raises:
        ConfigError: If there is one: it could not have one value.
    """
    space = problem.space
    bounds, shared = space.table.bounds, set(plan.shared.tolist())
    for i in bounds.dependent:
        for source in (bounds.lower_from[i], bounds.upper_from[i]):
            is_fixed = source >= 0 and bool(space.fixed[source])
            if i in shared and is_fixed and bool((space.priors[:, source] != space.priors[0, source]).any()):
                names = space.table.names
                raise ConfigError(
                    f"`sharing`: {names[i]!r} is shared, but its bound {names[source]!r} is fixed at values that differ from site "
                    f"to site. Make {names[i]!r} of kind site."
                )


def _fit_population(problem: InversionProblem, plan: SharingPlan, settings: InversionSettings) -> tuple[SharedFit, Ending]:
    start = time.perf_counter()
    with computing(settings.cpu_threads):
        fitted = fit_plan(problem, plan, is_bounded=settings.clip_raw_params.enabled)
    converged = fitted.status.startswith("converged")
    status = InversionStatus.CONVERGED if converged else InversionStatus.STEP_LIMIT
    seconds = (time.perf_counter() - start) / plan.sites
    history = pd.DataFrame({"iteration": range(fitted.iterations)})
    return fitted, Ending(status, fitted.status, history, fitted.iterations, METRICS["loss"], seconds)


def _fit_shared(
    problem: InversionProblem,
    plan: SharingPlan,
    settings: InversionSettings,
    solver: Solver,
    why: str,
    select: tuple[Tensor, Tensor] | None,
    driver: Trainer,
    watch: Watch,
    ckpt_path: str | Path | None,
) -> tuple[SharedFit, list[Ending]] | None:
    """Let the Trainer move the shared vector, with this process's sites, and return what the first process has of all."""
    start = time.perf_counter()
    own = torch.arange(driver.global_rank, plan.sites, driver.world_size)
    objective = SharedObjective(problem, plan.rows(own), own, settings.clip_raw_params.enabled)
    gamma = plan.average(priors_of(problem))
    build = _builder(solver, objective, settings)
    scored = None if select is None else (select[0][own], select[1][own])
    module = SharedInversionModule(objective, gamma, build, settings.lr, settings.target_variable, scored)
    with fitting(settings.cpu_threads):
        driver.fit(module, InversionData(driver.max_steps), ckpt_path=ckpt_path, weights_only=True)
    best = watch.best.theta if watch.best.theta is not None else module.theta.detach()
    theta, loss = (_gather(value, own, plan.sites) for value in (objective.finish(best), objective.loss_of_sites(best)[:, None]))
    if driver.world_size > 1:  # what follows is one process's business
        distributed.destroy_process_group()
    if driver.global_rank > 0:
        return None
    monitor = watch.best.monitor
    ending = watch.ending(module, driver, 0, why, monitor, (time.perf_counter() - start) / plan.sites)
    fitted = SharedFit(best[0], theta, loss[:, 0], len(ending.history), ending.message)
    return fitted, [ending] * plan.sites


def _builder(solver: Solver, objective: SharedObjective, settings: InversionSettings) -> Any:
    """Return what builds the optimiser from the parameters and the learning rate."""
    if solver.build is not None:
        return solver.build
    build_over, stopping = solver.build_over, Stopping(**asdict(settings.convergence))
    assert build_over is not None

    def build(parameters: list[nn.Parameter], lr: float) -> Any:
        return build_over(parameters, objective, stopping)

    return build


def _gather(values: Tensor, own: Tensor, sites: int) -> Tensor:
    """Return rows of all sites, from those that each process has."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    whole = values.new_zeros(sites, values.shape[1]).index_copy(0, own.to(values.device), values)
    distributed.all_reduce(whole)
    return whole


def shared_values(result: JointResult) -> pd.DataFrame:
    """Return the values that sites share, one row each.

    Returns:
        Columns `parameter`, `unit`, `kind` (`global`, `group`, or `hierarchical` for the mean of a group), `group`, `sites` (how
        many), `value` in the table's unit, and for hierarchical ones the `spread` among the sites of a group [scaled].
    """
    plan, fitted, space = result.plan, result.fitted, result.problem.space
    table = space.table
    rows: list[dict[str, Any]] = []
    physical = space.to_physical(fitted.theta.cpu())
    groups = [""] * len(plan.of_global) + list(plan.groups) * len(plan.of_group)
    index = plan.index
    for number, (place, group, count) in enumerate(zip(plan.component.tolist(), groups, plan.counts.tolist(), strict=True)):
        user = int((index == number).any(1).nonzero()[0])  # what it means may depend on bounds that this site fits, too
        rows.append(_row(table, place, "group" if group else "global", group, count, physical[user, place].item()))
    if isinstance(fitted, HierarchicalFit):
        sizes = torch.bincount(plan.group, minlength=len(plan.groups)).tolist()
        for h, place in enumerate(plan.hierarchical.tolist()):
            for n, group in enumerate(plan.groups):
                scaled = space.scaler.to_scaled(space.priors[0]).double()
                scaled[place] = fitted.population.center[n, h]
                value = space.scaler.to_physical(scaled.to(space.prior))[place].item()
                spread = fitted.population.spread[h].item()
                rows.append(_row(table, place, "hierarchical", group, sizes[n], value) | {"spread": spread})
    return pd.DataFrame(rows, columns=["parameter", "unit", "kind", "group", "sites", "value", "spread"])


def _row(table: ParameterTable, place: int, kind: str, group: str, sites: int, value: float) -> dict[str, Any]:
    return {
        "parameter": table.names[place], "unit": table.units[place], "kind": kind, "group": group, "sites": sites, "value": value
    }  # fmt: skip
