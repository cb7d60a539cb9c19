r"""The noise of a flux: how far observations lie from the best simulation, day by day, and how days resemble each other.

The residual of day t has the variance

.. math:: \sigma_t^2 = s^2 \left( a_t + (q f_t)^2 \right)

since the error of a flux grows with the flux f; a is one, or the shape of the uncertainty that the data state, with a mean of one.
Errors last: residuals over their :math:`\sigma_t` are an AR(1) process over calendar days, so that two observed days k days apart
correlate by :math:`\rho^k`, whatever lies between. All three numbers are estimated by maximum likelihood, for every member of a
batch on its own; s is corrected for what the fitted parameters have taken from the residuals (MacKay's effective number of
parameters). That leaves fewer days than were observed,

.. math:: n_{eff} = \sum_t \frac{1 - \rho^{k_t}}{1 + \rho^{k_t}},

and it ties the weight of the prior to its standard deviation: a misfit that is a mean square and a prior in units of its own
standard deviation add up to minus twice a log posterior over :math:`n_{eff} / \sigma^2` when

.. math:: \lambda_{prior} = \sigma^2 / n_{eff}.

Sources:
    Richardson et al. (2006), Agric. For. Meteorol. 136, 1-18, doi:10.1016/j.agrformet.2006.01.007, for noise that grows with the
    flux. Lu et al. (2017), Biogeosciences 14, 4295-4314, doi:10.5194/bg-14-4295-2017, for what ignoring correlation does. MacKay
    (1992), Neural Computation 4, 415-447, doi:10.1162/neco.1992.4.3.415, for the effective number of parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Smallest standard deviation of a residual that is believed: the calmest deserts are measured to that [gC m-2 d-1].
NOISE_FLOOR = 0.05
#: Growth of the noise with the flux, over its base, that is looked at [m2 d gC-1].
_GROWTHS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
#: Correlations from day to day that are looked at; few days cannot tell a larger one from one.
_CORRELATIONS = tuple(i / 40 for i in range(37))


@dataclass(frozen=True)
class Noise:
    """Noise of one flux of B members over T days."""

    sigma: Tensor
    """Standard deviation on a day without a flux, (B,) [gC m-2 d-1]."""
    share: Tensor
    """What the flux adds, as a share of it, (B,) [-]."""
    rho: Tensor
    """Correlation from one day to the next, (B,) [-]."""
    deviation: Tensor
    """Standard deviation of each day, (B, T) [gC m-2 d-1]."""
    mask: Tensor
    """True on observed days, (B, T)."""

    @property
    def n(self) -> Tensor:
        """Observed days, (B,)."""
        return self.mask.sum(-1)

    @property
    def n_eff(self) -> Tensor:
        """Days that are as good as independent, (B,)."""
        return effective_days(self.mask, self.rho)

    @property
    def variance(self) -> Tensor:
        """Mean variance of the observed days, (B,) [(gC m-2 d-1)^2]."""
        return torch.where(self.mask, self.deviation.square(), 0.0).sum(-1) / self.n.clamp_min(1)

    def only(self, members: Tensor) -> Noise:
        """Return the noise of some members, (b,)."""
        return Noise(*(getattr(self, name)[members] for name in self.__dataclass_fields__))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw series of noise for every day of the one member.

        Args:
            count: Number of series.
            generator: Source of randomness, on the CPU.

        Returns:
            A (count, T)-dim tensor [gC m-2 d-1].
        """
        rho, days = float(self.rho), self.deviation.shape[-1]
        shocks = torch.randn(count, days, generator=generator, dtype=torch.float64)
        series = shocks.clone()
        for t in range(1, days):
            series[:, t] = rho * series[:, t - 1] + (1 - rho**2) ** 0.5 * shocks[:, t]
        return series.to(self.deviation) * self.deviation


def gap_correlation(mask: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
    """Return the observed day before each day, and how much the two correlate.

    Args:
        mask: True where observed, (B, T).
        rho: Correlation from one day to the next, (B,) [-].

    Returns:
        Index of the day, zero where there is none, and correlation, zero there; both (B, T).

    Example:
        >>> gap_correlation(torch.tensor([[True, False, True, True]]), torch.tensor([0.5]))[1]
        tensor([[0.0000, 0.5000, 0.2500, 0.5000]])
    """
    day = torch.arange(mask.shape[-1], device=mask.device)
    seen = torch.where(mask, day, -1).cummax(-1).values
    previous = torch.nn.functional.pad(seen[:, :-1], (1, 0), value=-1)
    correlation = torch.where(previous >= 0, rho[:, None] ** (day - previous), 0.0)
    return previous.clamp_min(0), correlation


def whiten(values: Tensor, mask: Tensor, deviation: Tensor, rho: Tensor) -> Tensor:
    r"""Return values whose squares sum to the chi-square of correlated noise.

    .. math:: e_t = \frac{z_t - \rho^k z_{t-k}}{\sqrt{1 - \rho^{2k}}}, \qquad z_t = r_t / \sigma_t

    with t - k the observed day before t: a gap of any length is stepped over. It is linear in the values, so derivatives are
    whitened by the same call.

    Args:
        values: Residuals, (B, T), or their derivatives, (B, T, K) [gC m-2 d-1].
        mask: True where observed, (B, T).
        deviation: Standard deviation of each day, (B, T) [gC m-2 d-1].
        rho: Correlation from one day to the next, (B,) [-].

    Returns:
        Values of the same shape [-], zero where not observed.
    """
    previous, correlation = gap_correlation(mask, rho)
    if values.dim() == 3:
        mask, deviation, correlation = mask[..., None], deviation[..., None], correlation[..., None]
        previous = previous[..., None].expand(values.shape)
    z = torch.where(mask, values / deviation, 0.0)
    before = z.gather(1, previous.expand(z.shape))
    return torch.where(mask, (z - correlation * before) / (1 - correlation.square()).sqrt(), 0.0)


def estimate_noise(
    residuals: Tensor, flux: Tensor, mask: Tensor, shape: Tensor | None = None, spent: Tensor | None = None
) -> Noise:
    """Estimate the noise of one flux of B members by maximum likelihood.

    Args:
        residuals: Simulated minus observed, (B, T) [gC m-2 d-1].
        flux: The simulated flux, with which the noise may grow, (B, T) [gC m-2 d-1].
        mask: True where observed, (B, T).
        shape: Variance that the data state, over its mean, (B, T) [-]; one when omitted.
        spent: Effective number of parameters that the residuals have paid for, (B,); none when omitted.

    Returns:
        The noise; its standard deviation is never below the floor.
    """
    residuals, flux = residuals.double(), flux.double()
    shape = torch.ones_like(flux) if shape is None else shape.double()
    n = mask.sum(-1)
    left = (n if spent is None else n - spent).clamp_min(1.0).double()
    best = torch.full_like(left, torch.inf)
    sigma, growth, rho = torch.ones_like(left), torch.zeros_like(left), torch.zeros_like(left)
    for q in _GROWTHS:
        variance = shape + (q * flux).square()
        for c in _CORRELATIONS:
            each = torch.full_like(left, c)
            square, cost = _profile(residuals, variance, mask, each, left)
            better = cost < best
            best = torch.where(better, cost, best)
            sigma, growth, rho = (
                torch.where(better, new, old) for new, old in ((square.sqrt(), sigma), (each * 0 + q, growth), (each, rho))
            )
    sigma = sigma.clamp_min(NOISE_FLOOR)
    deviation = (sigma[:, None].square() * (shape + (growth[:, None] * flux).square())).sqrt()
    return Noise(sigma, sigma * growth, rho, deviation, mask)


def _profile(residuals: Tensor, variance: Tensor, mask: Tensor, rho: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best :math:`s^2` of each member at this growth and correlation, (B,), and minus twice the log likelihood there."""
    square = whiten(residuals, mask, variance.sqrt(), rho).square().sum(-1) / left
    square = square.clamp_min(NOISE_FLOOR**2 / 100)
    _, correlation = gap_correlation(mask, rho)
    volume = torch.where(mask, (variance * (1 - correlation.square())).log(), 0.0).sum(-1)
    # of all n days in both parts: with the days that are left in the first alone, the likelihood would not be free of units
    return square, mask.sum(-1) * square.log() + volume


def effective_days(mask: Tensor, rho: Tensor) -> Tensor:
    """Return the number of independent days that know as much of a mean as the observed ones, (B,).

    Example:
        >>> effective_days(torch.ones(1, 100, dtype=torch.bool), torch.tensor([0.5])).round()
        tensor([34.])
    """
    _, correlation = gap_correlation(mask, rho)
    return torch.where(mask, (1 - correlation) / (1 + correlation), 0.0).sum(-1)


def derived_lambda(variance: float, n_eff: float) -> float:
    r"""Return the weight of a prior in units of its standard deviation, :math:`\lambda = \sigma^2 / n_{eff}`.

    Args:
        variance: Mean variance of the noise [(gC m-2 d-1)^2].
        n_eff: Effective number of observed days.

    Example:
        >>> derived_lambda(0.25, 50.0)
        0.005
    """
    return variance / n_eff
