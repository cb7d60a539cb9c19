r"""Hierarchical parameters: each site's own, drawn from its group, whose mean and spread the sites themselves tell.

.. math:: z_s = m_{g(s)} + d_s, \qquad d_{sh} \sim N(0, \tau_h^2)

in the scaled space. A site with many good days keeps what they say; one with few is drawn to its group. How strongly is not for
the user to guess: mean m and spread :math:`\tau` maximise the likelihood of all sites together (empirical Bayes), in rounds of two
steps.

*Sites.* All sites are fitted at once with the prior :math:`N(m, \tau^2)`, and what they share with them. Around its optimum each
site's data are summarised by a Gaussian (Laplace). With gradient g and Gauss-Newton matrix C of the site's loss without that prior,
other local parameters eliminated, and the scale :math:`\lambda_s` that turns its loss into a likelihood, see
:mod:`lit_invert.sharing.noise`, its precision, and precision times estimate, are

.. math:: D_s = \frac{C_s}{2 \lambda_s}, \qquad b_s = D_s z_s - \frac{g_s}{2 \lambda_s}

*Population.* Mean and spread follow from the summaries alone, see :mod:`lit_invert.sharing.population`. The mean has the prior of a
shared value. The spread is kept between a hundredth of the prior's standard deviation, where sites are as good as equal, and half
the width of the bounds, which no distribution between them exceeds. As it goes to zero the sites get one value, each counting by
its likelihood; as it grows they are fitted apart.

Source:
    Gelman et al. (2013), Bayesian data analysis, 3rd edition, chapter 5 (hierarchical models).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..errors import ConfigError
from ..losses.prior import Prior
from ..problem import InversionProblem
from .fitting import SharedFit, fit_shared
from .noise import scale_of
from .objective import HeldSites, eliminate, priors_of
from .plan import SharingPlan
from .population import MeanPrior, Population, Summary, degrees_of_freedom, fit_population
from .terms import GroupPrior, count_priors_once, with_terms

#: Smallest spread, as a share of the prior's standard deviation.
LEAST_SPREAD = 0.01
#: Most rounds of sites and population, and the change at which they end, as a share of the spread.
ROUNDS, TOLERANCE = 30, 1e-2


@dataclass(frozen=True)
class HierarchicalFit(SharedFit):
    """A fit with H hierarchical parameters, whose numbers are in the scaled space."""

    population: Population
    """Means of the N groups, (N, H), and spread among the sites of a group, (H,) [-]."""
    scale: Tensor
    """What turns the loss of each site into minus twice a log likelihood, (S,)."""

    def without(self, site: int) -> Self:
        """Return the fit with the row of one site left out, to start that of the others from."""
        kept = torch.arange(len(self.scale), device=self.scale.device) != site
        return replace(super().without(site), scale=self.scale[kept])


def fit_plan(
    problem: InversionProblem,
    plan: SharingPlan,
    *,
    sites: Tensor | None = None,
    start: SharedFit | None = None,
    is_bounded: bool = True,
) -> SharedFit:
    """Fit sites as the plan says, hierarchical parameters or none; the arguments are those of :func:`fit_hierarchy`."""
    if not len(plan.hierarchical):
        return fit_shared(problem, plan, sites=sites, start=start, is_bounded=is_bounded)
    known = start if isinstance(start, HierarchicalFit) else None
    return fit_hierarchy(problem, plan, sites=sites, start=known, is_bounded=is_bounded)


def fit_hierarchy(
    problem: InversionProblem,
    plan: SharingPlan,
    *,
    sites: Tensor | None = None,
    start: HierarchicalFit | None = None,
    spread: Tensor | None = None,
    is_bounded: bool = True,
) -> HierarchicalFit:
    """Fit sites, what they share, and the distributions that their hierarchical parameters come from.

    Args:
        problem: The problem of the sites.
        plan: How they share parameters.
        sites: Which members of the problem the plan's sites are, (S,); None: all, in order.
        start: A fit of the same sites to start from.
        spread: Standard deviations to keep, (H,) [-]; fitted when omitted.
        is_bounded: Whether parameters must stay inside the table's bounds.

    Raises:
        ConfigError: If no parameter is hierarchical, or the misfit is no sum of squares.
    """
    if not len(plan.hierarchical):
        raise ConfigError("`sharing`: no parameter is hierarchical. Name one, or fit what is shared alone.")
    towers = _Sites(problem, plan, sites, is_bounded)
    limits = towers.limits() if spread is None else (spread.double(), spread.double())
    population, scale = towers.begin() if start is None else (start.population, start.scale)
    population = Population(population.center, population.spread.clamp(*limits))
    fit: SharedFit | None = start
    for rounds in range(1, ROUNDS + 1):
        fit, before = towers.fit(population, scale, fit), population
        summary = towers.summarise(fit.theta, scale)
        population = fit_population(summary, towers.mean_prior(scale), before.spread, limits)
        if population.is_near(before, TOLERANCE):
            status = f"converged after {rounds} rounds: the population moved by less than {TOLERANCE:.0e} of its spread"
            break
    else:
        status = f"stopped after {ROUNDS} rounds: the population still moved by more than {TOLERANCE:.0e} of its spread"
    fit = towers.fit(population, scale, fit)
    return HierarchicalFit(fit.gamma, fit.theta, fit.loss, fit.iterations, status, population, scale)


@dataclass(frozen=True)
class _Sites:
    """The sites of a hierarchical fit."""

    problem: InversionProblem
    plan: SharingPlan
    members: Tensor | None
    is_bounded: bool

    def begin(self) -> tuple[Population, Tensor]:
        """Fit the sites all but apart, and return the population that they make, and the scale of each site's likelihood, (S,).

        The scale is kept from here on. Were it taken from fits that are drawn to their group, a site that does not belong there
        would have large residuals, count as noisy, and be drawn the more.
        """
        plan, (_, widest) = self.plan, self.limits()
        wide = Population(self.mean_prior().center, widest)
        theta = priors_of(self.problem, self.members)
        scale = scale_of(self.problem, theta, torch.zeros(plan.sites, dtype=torch.float64), self.members)
        fit: SharedFit | None = None
        for _ in range(2):  # once more, since the first scale is that of the priors' residuals
            fit = self.fit(wide, scale, fit)
            _, curvature, others = self._data_on(fit.theta)
            used = others + degrees_of_freedom(curvature / (2 * scale[:, None, None]), widest)
            theta, scale = fit.theta, scale_of(self.problem, fit.theta, used, self.members)
        values = self._scaled(theta)[:, plan.hierarchical]
        counts = torch.bincount(plan.group, minlength=len(plan.groups)).clamp_min(1)[:, None]
        center = values.new_zeros(len(counts), values.shape[1]).index_add(0, plan.group, values) / counts
        return Population(center, (values - center[plan.group]).square().mean(0).sqrt()), scale

    def fit(self, population: Population, scale: Tensor, start: SharedFit | None) -> SharedFit:
        """Fit all sites with the population as the prior of their hierarchical parameters."""
        here, plan = self.problem.space.prior, self.plan
        center, scale = (self._among_members(value.to(here)) for value in (population.center[plan.group], scale))
        term = GroupPrior(plan.hierarchical, center, population.spread.to(here), scale)
        problem = with_terms(self.problem, [*self.problem.loss_terms, term])
        return fit_shared(problem, plan, sites=self.members, start=start, is_bounded=self.is_bounded)

    def summarise(self, theta: Tensor, scale: Tensor) -> Summary:
        """Return what the data of each site say, given the scale of its likelihood, (S,)."""
        gradient, curvature, _ = self._data_on(theta)
        precision = curvature / (2 * scale[:, None, None])
        here = self._scaled(theta)[:, self.plan.hierarchical, None]
        return Summary(precision, (precision @ here)[..., 0] - gradient / (2 * scale[:, None]), self.plan.group)

    def mean_prior(self, scale: Tensor | None = None) -> MeanPrior:
        """Return what is believed of the means: the prior, once, on the scale of the mean site's likelihood."""
        precision, deviation = torch.zeros(len(self.plan.hierarchical), dtype=torch.float64), self.prior_deviation()
        for term in self.problem.loss_terms:
            if isinstance(term, Prior):
                precision = precision + term.weight / (deviation.square() if term.unit == "prior_sd" else 1.0)
        prior = self._scaled(priors_of(self.problem, self.members))[:, self.plan.hierarchical]
        counts = torch.bincount(self.plan.group, minlength=len(self.plan.groups)).clamp_min(1)
        center = prior.new_zeros(len(counts), prior.shape[1]).index_add(0, self.plan.group, prior) / counts[:, None]
        return MeanPrior(center, precision if scale is None else precision / scale.mean())

    def prior_deviation(self) -> Tensor:
        """Return the prior's standard deviation, (H,), that of a mean site where sites differ."""
        deviation = self.problem.space.rows(self.members).prior_sd_scaled.double()
        return deviation.expand(self.plan.sites, -1)[:, self.plan.hierarchical].mean(0)

    def limits(self) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest spread, (H,) each."""
        space, least = self.problem.space, LEAST_SPREAD * self.prior_deviation()
        lower, upper = (space.scaler.to_scaled(side.to(space.prior)) for side in (space.bounds.lower, space.bounds.upper))
        return least, ((upper - lower).double() / 2)[self.plan.hierarchical].maximum(least)

    def _data_on(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what each site's loss without the population says of the hierarchical parameters.

        Gradient (S, H) and curvature (S, H, H) in the scaled space, and how many other local parameters were eliminated, (S,).
        """
        places = self.plan.hierarchical
        base = count_priors_once(self.problem, self.plan, self.members)
        alone = HeldSites(base, self.plan.is_shared.index_fill(0, places, True), self.is_bounded, self.members)
        linear = alone.linearize(theta)
        back, free = torch.linalg.inv(self._slopes(theta)), alone.free(theta, linear.gradient)
        gradient = (back @ linear.gradient.double()[..., None])[..., 0]
        curvature = back @ linear.curvature.double() @ back.mT
        reduced = eliminate(gradient, curvature.to(linear.curvature), free)
        return reduced.gradient[:, places], reduced.curvature[:, places][:, :, places], free.sum(-1)

    def _slopes(self, theta: Tensor) -> Tensor:
        """Return the derivatives of the scaled parameters by each coordinate of theta, (S, P, P); one for a fixed parameter."""
        push = self.problem.space.rows(self.members).push(theta)
        identity = torch.eye(theta.shape[1], dtype=torch.float64, device=theta.device).repeat(len(theta), 1, 1)
        return identity.index_copy(1, push.free, push.scaled.double())

    def _scaled(self, theta: Tensor) -> Tensor:
        space = self.problem.space.rows(self.members)
        return space.scaler.to_scaled(space.to_physical(theta)).double()

    def _among_members(self, values: Tensor) -> Tensor:
        """Return values of the sites, (S, ...), as rows of all members of the problem."""
        if self.members is None:
            return values
        return values.new_ones(len(self.problem.mask), *values.shape[1:]).index_copy(0, self.members, values)
