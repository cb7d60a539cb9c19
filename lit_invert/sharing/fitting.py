"""Fit shared and local parameters together, without a Trainer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..problem import InversionProblem
from ..solvers import LevenbergMarquardt, minimize
from ..solvers.minimize import BuildSolver
from .objective import SharedObjective, priors_of
from .plan import SharingPlan


@dataclass(frozen=True)
class SharedFit:
    """Where a fit of shared and local parameters ended."""

    gamma: Tensor
    """The shared vector in the optimiser's coordinates, (G,); its names are `plan.labels`."""
    theta: Tensor
    """Parameters of all sites in the same coordinates, (S, P)."""
    loss: Tensor
    """Loss of each site, (S,) [-]."""
    iterations: int
    """Steps of the shared vector."""
    status: str
    """Why it ended, in one sentence."""

    def without(self, site: int) -> Self:
        """Return the fit with the row of one site left out, to start that of the others from."""
        kept = torch.arange(len(self.theta), device=self.theta.device) != site
        return replace(self, theta=self.theta[kept], loss=self.loss[kept])


def fit_shared(
    problem: InversionProblem,
    plan: SharingPlan,
    *,
    sites: Tensor | None = None,
    start: SharedFit | None = None,
    build: BuildSolver = LevenbergMarquardt,
    is_bounded: bool = True,
    max_iters: int = 100,
) -> SharedFit:
    """Fit what sites share and what is theirs. A hierarchical parameter is the site's own here, without a prior.

    Args:
        problem: The problem of the sites.
        plan: How they share parameters.
        sites: Which members of the problem the plan's sites are, (S,); None: all, in order.
        start: A fit of the same sites to start from; the priors, averaged over those who share, when omitted.
        build: The solver of the shared vector.
        is_bounded: Whether parameters must stay inside the table's bounds.
        max_iters: Most steps of the shared vector.

    Returns:
        The fit.

    Example:
        >>> from lit_invert.sharing.plan import plan_sharing
        >>> from lit_invert.sharing.settings import SharingSettings
        >>> from lit_invert.testing import toy_problem
        >>> problem = toy_problem(mask=torch.ones(2, 60, 4, dtype=torch.bool))  # two sites with the same truth
        >>> plan = plan_sharing(problem.space.table, SharingSettings("global"), ["a", "a"])
        >>> problem.space.to_physical(fit_shared(problem, plan).gamma).round(decimals=4)
        tensor([2.3782, 1.7087, 1.3070], dtype=torch.float64)
    """
    theta = priors_of(problem, sites) if start is None else start.theta
    gamma = plan.average(theta) if start is None else start.gamma
    objective = SharedObjective(problem, plan, sites, is_bounded, theta)
    if not plan.size:
        return _finished(objective, gamma, 0, "every site was fitted alone")
    found = minimize(objective, gamma[None], build, max_iters=max_iters)
    return _finished(objective, found.theta[0], found.iterations, found.status)


def _finished(objective: SharedObjective, gamma: Tensor, iterations: int, status: str) -> SharedFit:
    return SharedFit(gamma, objective.finish(gamma[None]), objective.loss_of_sites(gamma[None]), iterations, status)
