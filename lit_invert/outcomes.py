"""From where a fit has led to what it found: each site's parameters and fluxes, before and after, evaluated once more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from .losses import Prior
from .parameters import ParameterTable
from .problem import InversionProblem, Loss
from .results import InversionResult, InversionStatus


@dataclass(frozen=True)
class Ending:
    """How the fit of one site ended."""

    status: InversionStatus
    message: str
    history: pd.DataFrame
    """One row an iteration in which the site took part."""
    best_iteration: int
    monitor: str
    seconds: float
    """The site's share of the wall time [s]."""


@torch.no_grad()
def results_at(
    problem: InversionProblem, theta: Tensor, tables: Sequence[ParameterTable], endings: Sequence[Ending], target: str, clips: bool
) -> list[InversionResult]:
    """Evaluate priors and optima of all members, and collect what was found of each.

    Args:
        problem: The problem, on the CPU.
        theta: Parameters of each member, (B, P), in the optimiser's coordinates.
        tables: The table of parameters of each member, with its own prior.
        endings: How each ended.
        target: The flux that was fitted.
        clips: Whether parameters were kept inside their bounds.
    """
    space = problem.space
    theta = theta.to(space.prior)
    before, after = problem(space.to_theta(space.priors).expand_as(theta)), problem(theta)
    physical = space.to_physical(theta).double()
    if clips:  # float32 may stand a last bit outside
        physical = tables[0].bounds.clip(physical)
    weight = next((float(term.weight) for term in problem.loss_terms if term.name == Prior.name), math.nan)
    return [
        InversionResult(
            status=end.status,
            message=end.message,
            table=table,
            optimum=torch.where(table.fixed, table.prior, physical[i]),
            optimum_scaled=after.evaluation.scaled[i].double(),
            prior_scaled=before.evaluation.scaled[i].double(),
            simulated_prior=before.evaluation.simulated[i, :length].double().numpy(),
            simulated_optimum=after.evaluation.simulated[i, :length].double().numpy(),
            loss_prior=_numbers(before, i),
            loss_optimum=_numbers(after, i),
            history=end.history,
            iterations=len(end.history),
            best_iteration=end.best_iteration,
            monitor=end.monitor,
            seconds=end.seconds,
            target=target,
            lambda_prior=weight,
        )
        for i, (length, table, end) in enumerate(zip(lengths_of(problem), tables, endings, strict=True))
    ]


def lengths_of(problem: InversionProblem) -> list[int]:
    """Return the length of each member's record [d]."""
    days = problem.days * torch.arange(1, problem.days.shape[1] + 1)
    lengths: list[int] = days.amax(-1).expand(len(problem.mask)).tolist()
    return lengths


def _numbers(loss: Loss, member: int) -> dict[str, float]:
    return {
        "loss/total": loss.total[member].item(),
        **{f"loss/{name}": value[member].item() for name, value in loss.terms.items()},
        **{f"weighted/{name}": value[member].item() for name, value in loss.weighted.items()},
    }
