r"""Has a distribution moved, and by more than chance would move it?

Two samples of a variable are compared in two ways: by the population stability index, which adds up what has left and entered each
tenth of the older sample, and by the largest distance of the two distribution functions (Kolmogorov and Smirnov). Both were made
for independent samples. Days are not: warm ones follow warm ones, and a month of weather may be worth five independent days. So
the chance that nothing has moved is computed from the number of days that are independent,

.. math:: n' = n\,\frac{1 - r}{1 + r}

with the correlation r of neighbouring days. With n' and m' such days in both samples and b bins, PSI is distributed as
:math:`(1/n' + 1/m')\,\chi^2_{b-1}` if nothing has moved, so that 0.2, the usual mark of a clear change, means little for one month.

Source:
    Yurdakul (2018), Statistical properties of population stability index, dissertation, Western Michigan University, for the
    distribution of PSI; Wilks (2011), Statistical methods in the atmospheric sciences, section 5.2.4, for independent days.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, ks_2samp, kstwobign

Series = NDArray[np.float64]

#: PSI above which a change is called clear [-].
PSI_THRESHOLD = 0.2
#: Chance of an alert where nothing has moved, for each driver and measure, as far as neighbouring days tell [-].
CHANCE = 0.001
#: Days that are worth an independent one however alike neighbouring days are [d].
SLOWEST = 30.0


def psi(baseline: Series, new: Series, bins: int = 10) -> float:
    r"""Return the population stability index.

    .. math:: \sum_i (q_i - p_i) \ln(q_i / p_i)

    over bins between quantiles of the baseline, with shares p of the baseline and q of the new sample. A value that many days have,
    such as no rain, has a bin of its own. An empty bin counts as half a day, so that the index stays finite.

    Args:
        baseline: An (n,)-dim array.
        new: An (m,)-dim array of the same variable.
        bins: Number of bins.

    Returns:
        The index [-]: below 0.1 little has changed, above 0.2 much.

    Example:
        >>> days = np.arange(100.0)
        >>> psi(days, days), round(psi(days, days + 50), 1)
        (0.0, 2.3)
    """
    edges = _edges(baseline, bins)
    counts = [np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1) for sample in (baseline, new)]
    p, q = (_shares(count) for count in counts)
    return float(((q - p) * np.log(q / p)).sum())


def _edges(baseline: Series, bins: int) -> Series:
    """Return the upper ends of all bins but the last; a value that stands for several quantiles lies between two of them."""
    quantiles = np.quantile(baseline, np.arange(1, bins) / bins)
    repeated = quantiles[1:][quantiles[1:] == quantiles[:-1]]
    return np.unique(np.concatenate([quantiles, np.nextafter(repeated, -np.inf)]))


def _shares(counts: NDArray[np.int64]) -> Series:
    floored = np.maximum(counts, 0.5)
    return np.asarray(floored / floored.sum())


def psi_by_chance(baseline_days: float, new_days: float, bins: int = 10, chance: float = CHANCE) -> float:
    """Return the PSI that is exceeded with this chance though nothing has moved.

    Args:
        baseline_days: Independent days of the baseline.
        new_days: Independent days of the new sample.
        bins: Number of bins.
        chance: Probability [-].

    Example:
        >>> round(psi_by_chance(36.5, 36.5), 2), round(psi_by_chance(3650, 3650), 3)
        (1.53, 0.015)
    """
    return float(chi2.isf(chance, bins - 1) * (1 / baseline_days + 1 / new_days))


def ks(baseline: Series, new: Series, persistence: float = 0.0) -> tuple[float, float]:
    """Return the largest distance of two distribution functions, and the chance of one as large if nothing has moved.

    Args:
        baseline: An (n,)-dim array.
        new: An (m,)-dim array of the same variable.
        persistence: Correlation of neighbouring days [-].

    Returns:
        The statistic and its p-value, for large samples [-].

    Example:
        >>> ks(np.arange(100.0), np.arange(100.0) + 50)[0]
        0.5
    """
    distance = float(ks_2samp(baseline, new, method="asymp").statistic)
    n, m = (independent_days(len(sample), persistence) for sample in (baseline, new))
    return distance, float(kstwobign.sf(distance * math.sqrt(n * m / (n + m))))


def independent_days(days: int, persistence: float) -> float:
    """Return how many independent days a number of days is worth; at least one a month.

    Example:
        >>> independent_days(365, 0.0), round(independent_days(365, 0.8), 1), round(independent_days(365, 1.0), 1)
        (365.0, 40.6, 12.2)
    """
    return max(days * (1 - persistence) / (1 + persistence), days / SLOWEST, 1.0)


def persistence_of(values: Series) -> float:
    """Return the correlation of neighbouring days; zero where it is negative, or nothing varies.

    Example:
        >>> persistence_of(np.array([0.0, 1.0, 0.0, 1.0])), round(persistence_of(np.sin(np.arange(360) / 57.3)), 2)
        (0.0, 1.0)
    """
    anomaly = values - values.mean()
    square = float(anomaly @ anomaly)
    return max(0.0, float(anomaly[1:] @ anomaly[:-1]) / square) if square > 0 else 0.0
