r"""Identifiability in the words of parameters: what the data determined, what they traded off, and what only the prior says.

In prior units the prior knows as much of every direction, namely one; a direction that the data know more of than that is
determined by them, and the number of those is the practical rank. Of a single parameter the data may know much while the others
are held, and nothing when they are not: it is traded off, with the one of its largest posterior correlation, or with several where
none is large. The classes, in the order in which they are tried:

- `fixed`: the table says so.
- `at bound`: the mode lies on a bound, and the data push on; or the draws pile up at one, where a narrow posterior is the bound's.
- `determined`: the posterior's standard deviation is at most half of the prior's, cut to the same bounds.
- `traded off`: it would be, if the other parameters were known.
- `prior only`: it is not even then.

Source:
    Vallisneri (2008), Phys. Rev. D 77, 042001, doi:10.1103/PhysRevD.77.042001, for what a Fisher matrix can and cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .target import Mode, unit_bounds

#: A parameter is determined when its standard deviation is at most this share of the prior's.
DETERMINED = 0.5
#: How close to a bound is on it, and how hard the data must push there [prior sd, and per prior sd].
_ON_BOUND, _PUSH = 1e-3, 1e-3
#: Correlation of the posterior from which two parameters are said to be traded off.
STRONG = 0.4
#: Share of a range that is beside its bound; share of draws there that leans on it, if it is so many times the prior's.
_BESIDE, _LEANING, _LEANING_TIMES = 0.05, 0.25, 3.0
#: What a parameter without one partner is traded off with.
SEVERAL = "several"


@dataclass(frozen=True)
class Identified:
    """What is known of each of P parameters."""

    classes: tuple[str, ...]
    traded_with: tuple[str, ...]
    """Name of the parameter of the largest correlation, or `several`, for those traded off; empty for the others."""
    leaning: tuple[str, ...]
    """On which bound draws pile up, a sentence; empty where they do not."""
    variance_ratio: Tensor
    """Variance of the posterior over that of the prior cut to the bounds, (P,) [-]; NaN where fixed."""


def cut_prior_sd(lower: Tensor, upper: Tensor) -> Tensor:
    r"""Return the standard deviation of a standard normal cut to an interval.

    .. math:: 1 - \frac{h \phi(h) - l \phi(l)}{Z} - \left( \frac{\phi(h) - \phi(l)}{Z} \right)^2, \qquad Z = \Phi(h) - \Phi(l)

    is its square.

    Example:
        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> round(cut_prior_sd(zero, torch.inf + zero).square().item(), 6) == round(1 - 2 / torch.pi, 6)
        True
    """
    mass: Tensor = torch.special.ndtr(upper) - torch.special.ndtr(lower)
    low, high = ((-side.square() / 2).exp() / (2 * torch.pi) ** 0.5 / mass for side in (lower, upper))
    ends = [torch.where(side.isfinite(), side, 0.0) * density for side, density in ((lower, low), (upper, high))]
    variance: Tensor = 1 - (ends[1] - ends[0]) - (high - low).square()
    return variance.sqrt()


def sd_ratio(mode: Mode, draws: Tensor) -> Tensor:
    """Return the posterior's standard deviation over the cut prior's, (B, K), of draws in prior units, (B, M, P)."""
    lower, upper = unit_bounds(mode.problem, mode.theta)
    prior = cut_prior_sd(lower, upper)[:, mode.free]
    return draws[..., mode.free].std(1) / prior


def identify(mode: Mode, draws: Tensor) -> Identified:
    """Say of each parameter of one member what determined it.

    Args:
        mode: The mode.
        draws: Draws of the posterior in prior units, (M, P).
    """
    names, free = mode.problem.space.table.names, mode.free.tolist()
    ratio = sd_ratio(mode, draws[None])[0]
    lower, upper = unit_bounds(mode.problem, mode.theta)
    alone = mode.precision[0].diagonal().rsqrt() / cut_prior_sd(lower, upper)[0, mode.free]
    stuck, correlation = is_pushed(mode)[0], correlate(draws[:, mode.free])
    leaning = [
        "" if place not in free else _lean(*values) for place, values in enumerate(zip(draws.T, lower[0], upper[0], strict=True))
    ]
    classes, partners = ["fixed"] * len(names), [""] * len(names)
    ratios = torch.full((len(names),), torch.nan, dtype=torch.float64)
    for k, place in enumerate(free):
        ratios[place] = ratio[k].square()
        classes[place] = classify(bool(stuck[k]) or leaning[place] != "", float(ratio[k]), float(alone[k]))
        if classes[place] == "traded off":
            others = correlation[k].abs().index_fill(0, torch.tensor(k), 0.0)
            partners[place] = names[free[int(others.argmax())]] if others.max() >= STRONG else SEVERAL
    return Identified(tuple(classes), tuple(partners), tuple(leaning), ratios)


def _lean(draws: Tensor, lower: Tensor, upper: Tensor) -> str:
    """Say on which bound draws of one parameter pile up far more than the prior cut to its range does; empty on none."""
    beside, mass = _BESIDE * (upper - lower), torch.special.ndtr(upper) - torch.special.ndtr(lower)
    if not beside.isfinite():
        return ""
    for side, low, high in (("lower", lower, lower + beside), ("upper", upper - beside, upper)):
        share = ((draws >= low) & (draws <= high)).double().mean()
        expected = (torch.special.ndtr(high) - torch.special.ndtr(low)) / mass
        if share > _LEANING and share > _LEANING_TIMES * expected:
            return f"leans on its {side} bound"
    return ""


def is_pushed(mode: Mode) -> Tensor:
    """Say of each free parameter whether it lies on a bound that the data push against, (B, K)."""
    lower, upper = (side[:, mode.free] for side in unit_bounds(mode.problem, mode.theta))
    units = mode.units[:, mode.free]
    at_lower = (units <= lower + _ON_BOUND) & (mode.gradient > _PUSH)
    return at_lower | ((units >= upper - _ON_BOUND) & (mode.gradient < -_PUSH))


def classify(is_stuck: bool, ratio: float, alone: float) -> str:
    """Return the class of a free parameter.

    Args:
        is_stuck: Whether it is pushed against a bound, or leans on it.
        ratio: Its standard deviation over the cut prior's.
        alone: The same, were all other parameters known.

    Example:
        >>> classify(False, 0.5, 0.4), classify(False, 0.51, 0.4), classify(False, 0.9, 0.8)
        ('determined', 'traded off', 'prior only')
    """
    if is_stuck:
        return "at bound"
    if ratio <= DETERMINED:
        return "determined"
    return "traded off" if alone <= DETERMINED else "prior only"


def correlate(draws: Tensor) -> Tensor:
    """Return the correlation matrix of draws, (M, K), zero beside the diagonal for what does not vary."""
    deviation = draws.std(0)
    covariance = torch.cov(draws.T).reshape(len(deviation), -1)
    matrix = covariance / torch.outer(deviation, deviation).clamp_min(torch.finfo(draws.dtype).tiny)
    return matrix.fill_diagonal_(1.0)


def practical_rank(information: Tensor) -> Tensor:
    """Return how many directions the data know better than the prior does, (B,).

    Example:
        >>> practical_rank(torch.diag(torch.tensor([9.0, 1.5, 0.5])).unsqueeze(0))
        tensor([2])
    """
    eigenvalues: Tensor = torch.linalg.eigvalsh(information)
    return (eigenvalues > 1).sum(-1)
