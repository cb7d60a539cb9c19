r"""Prices on parameters where sites are tied together.

A shared value has one prior, whoever uses it, so each of its n sites pays one n-th. A hierarchical parameter has no prior of its
site's own: it pays for its distance from the mean of its group instead, in units of the spread that such sites have.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..kernels.frozen import rows_of
from ..losses.base import Evaluation, LossTerm, SquaredTerm, Tangent
from ..losses.prior import Prior
from ..problem import InversionProblem
from .plan import SharingPlan


class GroupPrior(SquaredTerm):
    r"""Distance of a site's hierarchical parameters from the mean of its group, in units of the spread among its sites.

    .. math:: L_s = \lambda_s \sum_h \left( \frac{z_{sh} - m_{g(s)h}}{\tau_h} \right)^2

    in the scaled space. With :math:`\lambda_s = \sigma_s^2 / n_s` the sum with a misfit that is a mean over n independent days of
    variance :math:`\sigma^2` is :math:`\lambda_s` times minus twice the logarithm of the site's posterior.

    Args:
        places: Places of the H hierarchical parameters among the P.
        center: Mean of its group for each member of the problem, (B, H) [-].
        spread: Standard deviation among sites, (H,), positive [-].
        scale: :math:`\lambda_s`, (B,).
    """

    name = "group_prior"
    places: Tensor
    center: Tensor
    spread: Tensor
    scale: Tensor

    def __init__(self, places: Tensor, center: Tensor, spread: Tensor, scale: Tensor) -> None:
        super().__init__()
        for name, value in (("places", places), ("center", center), ("spread", spread), ("scale", scale)):
            self.register_buffer(name, value, persistent=False)

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the distances, (B, H) [-]."""
        distance = evaluation.scaled[:, self.places] - rows_of(self.center, evaluation.members)
        return distance * self._factor(evaluation)

    def push_residuals(self, evaluation: Evaluation, tangent: Tangent) -> Tensor:
        """Return the derivative of the distances, (B, H, K)."""
        return (tangent.scaled[..., self.places] * self._factor(evaluation)[:, None]).transpose(1, 2)

    def _factor(self, evaluation: Evaluation) -> Tensor:
        """Return what a distance counts, (B, H)."""
        return rows_of(self.scale, evaluation.members).sqrt()[:, None] / self.spread


def count_priors_once(problem: InversionProblem, plan: SharingPlan, sites: Tensor | None = None) -> InversionProblem:
    """Return the problem whose prior counts each shared value once, and hierarchical parameters not at all.

    Args:
        problem: The problem of B sites.
        plan: How S of them share parameters.
        sites: Which they are, (S,); None: all, in order.
    """
    here = problem.space.prior
    shared_by = plan.shared_by.to(here).index_fill(1, plan.hierarchical, torch.inf)
    if sites is not None:
        shared_by = here.new_ones(len(problem.mask), len(plan.names)).index_copy(0, sites, shared_by)
    terms = [Prior(t.unit, t.weight, shared_by) if isinstance(t, Prior) else t for t in problem.loss_terms]
    return with_terms(problem, terms)


def with_terms(problem: InversionProblem, terms: Sequence[LossTerm]) -> InversionProblem:
    """Return the problem with other loss terms; everything else is shared with the old one."""
    other, ordered = copy.copy(problem), sorted(terms, key=lambda term: term.name)
    other._modules = {**problem._modules, "terms": nn.ModuleList(ordered)}
    return other
