r"""The distribution that sites come from, found from what their data say.

Let the data of site s say of H parameters z that they are Gaussian, with precision :math:`D_s` and :math:`b_s` for precision times
estimate (a direction that the data do not see has precision zero), and let the sites of group g be drawn from
:math:`N(m_g, T)`, :math:`T = \mathrm{diag}(\tau^2)`. Then nothing has to be simulated to find m and :math:`\tau`:

.. math:: m_g &= \Big(\sum_{s \in g} W_s\Big)^{-1} \sum_{s \in g} (I + D_s T)^{-1} b_s, \qquad W_s = (I + D_s T)^{-1} D_s \\
    d_s &= \Sigma_s (b_s - D_s m_g), \qquad \Sigma_s = (D_s + T^{-1})^{-1} = T (I + D_s T)^{-1} \\
    \tau_h^2 &= \frac{1}{S} \sum_s \left( d_{sh}^2 + V_{s,hh} \right), \qquad
    V_s = \Sigma_s + \Sigma_s D_s \Big(\sum_{u \in g} W_u\Big)^{-1} D_s \Sigma_s

with :math:`d_s` the expected deviation of a site and :math:`V_s` its variance, that of the mean included: restricted maximum
likelihood, by which few sites do not make the spread too small. Each line is solved given the others, over and over: expectation
and maximisation. The last one creeps where the spread is small beside what the data tell, so it is solved as

.. math:: \tau_h^2 = \sum_s d_{sh}^2 \Big/ \sum_s \left( 1 - V_{s,hh} / \tau_h^2 \right)

which holds at the same spread, and gets there in a few steps (MacKay): the squared deviations over the degrees of freedom that the
data determine. One :math:`\tau_h` serves all groups.

Source:
    Dempster, Laird and Rubin (1977), J. R. Stat. Soc. B 39(1), 1-38, doi:10.1111/j.2517-6161.1977.tb01600.x (EM).
    Laird and Ware (1982), Biometrics 38(4), 963-974, doi:10.2307/2529876 (random effects, restricted likelihood).
    MacKay (1992), Neural Computation 4(3), 415-447, doi:10.1162/neco.1992.4.3.415.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Most steps, and the change of the spread at which they end, as a share of it.
STEPS, TOLERANCE = 300, 1e-5
#: Degrees of freedom below which the spread is not determined and stays where it was: one site a group.
LEAST_FREEDOM = 1e-6


class Summary(NamedTuple):
    """What their data say about the parameters of S sites, a Gaussian each, in float64."""

    precision: Tensor
    """D, (S, H, H)."""
    shift: Tensor
    """b, precision times estimate, (S, H)."""
    group: Tensor
    """Group of each site, (S,)."""


class MeanPrior(NamedTuple):
    """What is believed of the means of N groups before any site is seen."""

    center: Tensor
    """(N, H)."""
    precision: Tensor
    """(H,); zero where nothing is."""


class Population(NamedTuple):
    """Where sites come from."""

    center: Tensor
    """Mean of each group, (N, H)."""
    spread: Tensor
    """Standard deviation within a group, (H,)."""

    def is_near(self, other: Population, tolerance: float) -> bool:
        """Say whether nothing differs by more than a share of the spread."""
        room = tolerance * self.spread
        return bool(((self.center - other.center).abs() <= room).all() and ((self.spread - other.spread).abs() <= room).all())


def fit_population(summary: Summary, prior: MeanPrior, start: Tensor, limits: tuple[Tensor, Tensor]) -> Population:
    """Return the means and the spread that make the sites most likely.

    Args:
        summary: What the data of each site say.
        prior: What is believed of the means.
        start: Spread to start from, (H,).
        limits: Smallest and largest spread, (H,) each.

    Example:
        >>> estimates = torch.tensor([[1.0], [2.0], [3.0], [6.0]], dtype=torch.float64)
        >>> sure = Summary(1e9 * torch.ones(4, 1, 1).double(), 1e9 * estimates, torch.zeros(4, dtype=torch.long))
        >>> nothing = MeanPrior(torch.zeros(1, 1).double(), torch.zeros(1).double())
        >>> center, spread = fit_population(sure, nothing, torch.ones(1).double(), (torch.zeros(1), torch.ones(1) * 9))
        >>> round(center.item(), 4), round(spread.item() ** 2, 3), estimates.var().item()
        (3.0, 4.667, 4.666666666666667)
    """
    spread = start
    for _ in range(STEPS):
        before = spread
        center, covariance = _means(summary, prior, spread)
        deviation, variance = _deviations(summary, center, covariance, spread)
        freedom = (1 - variance / spread.square()).sum(0)
        variance = deviation.square().sum(0) / freedom.clamp_min(LEAST_FREEDOM)
        spread = torch.where(freedom > LEAST_FREEDOM, variance.sqrt(), spread).clamp(*limits)
        if bool(((spread - before).abs() <= TOLERANCE * before).all()):
            break
    return Population(_means(summary, prior, spread)[0], spread)


def degrees_of_freedom(precision: Tensor, spread: Tensor) -> Tensor:
    r"""Return how many of a site's parameters its data determine, and not the population, (S,).

    .. math:: k_s = \mathrm{tr}\left( D_s (D_s + T^{-1})^{-1} \right) = H - \mathrm{tr}\left( (I + T D_s)^{-1} \right)

    Args:
        precision: D, (S, H, H).
        spread: Standard deviation within a group, (H,).
    """
    left = torch.linalg.inv(_identity(precision) + spread.square()[:, None] * precision)
    used: Tensor = precision.shape[-1] - left.diagonal(dim1=1, dim2=2).sum(-1)
    return used


def _means(summary: Summary, prior: MeanPrior, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of the groups, (N, H), and their covariance, (N, H, H)."""
    mixed = _identity(summary.precision) + summary.precision * spread.square()
    weights = torch.linalg.solve(mixed, torch.cat([summary.precision, summary.shift[..., None]], -1))
    sums = weights.new_zeros(len(prior.center), *weights.shape[1:]).index_add(0, summary.group, weights)
    # a group that no data see keeps its prior's mean, or zero
    covariance = torch.linalg.pinv(sums[..., :-1] + torch.diag(prior.precision), hermitian=True)
    known = sums[..., -1] + prior.precision * prior.center
    return (covariance @ known[..., None])[..., 0], covariance


def _deviations(summary: Summary, center: Tensor, covariance: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return the expected deviation of each site from its group's mean, and its variance, (S, H) each."""
    precision, group = summary.precision, summary.group
    posterior = spread.square()[:, None] * torch.linalg.inv(_identity(precision) + precision * spread.square())
    pull = posterior @ precision
    pushed = summary.shift[..., None] - precision @ center[group][..., None]
    variance = posterior + pull @ covariance[group] @ pull.mT
    return (posterior @ pushed)[..., 0], variance.diagonal(dim1=1, dim2=2)


def _identity(matrices: Tensor) -> Tensor:
    return torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
