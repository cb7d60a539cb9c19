"""What chance alone would do: tests of uniformity, and limits of counts, in closed forms.

Source:
    Holm (1979), Scand. J. Stat. 6, 65-70, for many tests at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

#: Chance with which a binomial count of a correct posterior falls outside its limits.
RARE = 0.01
#: Fewest twins in a bin, with which a chi-square can be trusted, and most bins.
_EXPECTED, _MOST_BINS = 5, 20


def uniformity(ranks: Tensor, draws: int) -> tuple[float, float]:
    r"""Test whether ranks are uniform over 0..draws.

    .. math:: \chi^2 = \sum_b \frac{(n_b - e_b)^2}{e_b}

    over bins of neighbouring ranks, whose expected counts follow from how many ranks each holds.

    Args:
        ranks: (B,).
        draws: Number of draws among which the truth was ranked.

    Returns:
        Chi-square and its p-value.

    Example:
        >>> uniformity(torch.arange(100), 99)
        (0.0, 1.0)
    """
    bins = max(2, min(_MOST_BINS, len(ranks) // _EXPECTED, draws + 1))
    place = torch.arange(draws + 1) * bins // (draws + 1)
    expected = place.bincount(minlength=bins).double() * len(ranks) / (draws + 1)
    found = place[ranks].bincount(minlength=bins).double()
    statistic = float(((found - expected).square() / expected).sum())
    return statistic, chi_square_survival(statistic, bins - 1)


def chi_square_survival(value: float, dof: float) -> float:
    """Return the chance that a chi-square of so many degrees of freedom is larger.

    Example:
        >>> round(chi_square_survival(3.841, 1), 3)
        0.05
    """
    half, at = (torch.tensor(x / 2, dtype=torch.float64) for x in (dof, value))
    return float(torch.special.gammaincc(half, at))


def correct_for_many(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, by Holm's method.

    Example:
        >>> correct_for_many([0.01, 0.04, 0.5])
        [0.03, 0.08, 0.5]
    """
    order, count = np.argsort(p_values), len(p_values)
    factors = count - np.arange(count)
    corrected = np.empty(count)
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    values: list[float] = corrected.tolist()
    return values


def binomial_limits(trials: int, chance: float, rare: float = RARE) -> tuple[float, float]:
    """Return between which shares of successes a binomial count lies, but for one in `rare` cases at most.

    Example:
        >>> binomial_limits(200, 0.9)
        (0.84, 0.95)
        >>> binomial_limits(0, 0.9)
        (0.0, 1.0)
    """
    if trials == 0:
        return 0.0, 1.0
    counts = np.arange(trials + 1)
    log = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in counts]
    mass = np.exp(np.array(log) + counts * math.log(chance) + (trials - counts) * math.log1p(-chance))
    below = np.cumsum(mass)
    low = int(np.searchsorted(below, rare / 2, side="right"))
    high = int(np.searchsorted(below, 1 - rare / 2))
    return low / trials, min(high, trials) / trials
