"""A day among those of its season: a July is compared with Julys, and not with the year.

The season of a day is every day of the baseline, of whatever year, within half a month of the same day of the year. In its season a
value has a rank, from 0 for the lowest to 1 for the highest, and an anomaly, its distance from the season's mean. What is left of a
warm July is that it was warm for a July.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]
Days = NDArray[np.datetime64]

#: How far the season of a day reaches to either side [d].
HALF_SEASON = 15
_YEAR = 365


class Seasonal(NamedTuple):
    """Values in their season."""

    ranks: Series
    """(n, F), from 0 to 1 [-]; NaN where the baseline has no day of the season."""
    anomalies: Series
    """(n, F), in the unit of the values, likewise."""


def in_season(values: Series, dates: Days, baseline: Series, baseline_dates: Days) -> Seasonal:
    """Place values in the season that a baseline knows.

    Args:
        values: An (n, F)-dim array.
        dates: Their days, (n,).
        baseline: An (m, F)-dim array of the same variables.
        baseline_dates: Its days, (m,).

    Example:
        >>> days = np.arange("2001-01-01", "2002-01-01", dtype="datetime64[D]")
        >>> cold = np.zeros((365, 1))
        >>> in_season(cold[:2] + [[0.0], [1.0]], days[:2], cold, days).ranks.tolist()
        [[0.5], [1.0]]
    """
    ranks, anomalies = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    own, known = day_of_year(dates), day_of_year(baseline_dates)
    for day in np.unique(own):
        here, season = own == day, baseline[is_near(known, day)]
        if len(season):
            ordered = np.sort(season, axis=0)
            for driver in range(values.shape[1]):
                ranks[here, driver] = _ranks(values[here, driver], ordered[:, driver])
            anomalies[here] = values[here] - season.mean(0)
    return Seasonal(ranks, anomalies)


def day_of_year(dates: Days) -> NDArray[np.int64]:
    """Return 0 for 1 January, and so on; the last day of a leap year is that before it."""
    days = dates.astype("datetime64[D]") - dates.astype("datetime64[Y]").astype("datetime64[D]")
    return np.asarray(np.minimum(days.astype(int), _YEAR - 1))


def is_near(days: NDArray[np.int64], day: int) -> NDArray[np.bool_]:
    """Say which days of the year are of the season of one; the year is a circle."""
    apart = np.abs(days - day)
    return np.asarray(np.minimum(apart, _YEAR - apart) <= HALF_SEASON)


def _ranks(values: Series, ordered: Series) -> Series:
    """Return the share of values below, and half of those that are equal."""
    below, upto = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray((below + upto) / (2 * len(ordered)))
