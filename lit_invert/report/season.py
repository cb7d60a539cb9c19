r"""The season of a flux: its mean cycle, and when the land turns from source to sink and back.

A day of year has the mean over the years, smoothed by a Gaussian kernel around the year's circle,

.. math:: \bar f(d) = \frac{\sum_t w(d - d_t) f_t}{\sum_t w(d - d_t)}, \qquad w(x) = e^{-x^2 / 2 h^2}, \quad h = 10\ \text{days},

over the days that have a value, so that gaps need no filling. Where fewer than three days' weight is near, it has no value. A sine
of the year keeps its crossings of zero and loses 1.5 % of its height.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

DAYS = 365
_LAST_OF_FEBRUARY = 59
#: Standard deviation of the kernel [d].
_WIDTH = 10.0
_LEAST_WEIGHT = 3.0


@dataclass(frozen=True)
class Season:
    """Key dates of a mean year; a day of year, from 1, is None where it is not known or there is none."""

    start: int | None
    """First day of the longest time as a sink."""
    end: int | None
    """Last day of it."""
    length: int | None
    """Its length [d]; None where an end of it is not known."""
    peak_day: int | None
    peak: float
    """Largest value, in the flux's unit; NaN where days beside it may have had a larger one."""


def day_of_year(dates: ArrayLike) -> NDArray[np.int64]:
    """Return the day of year, 1 to 365; 29 February shares the place of the 28th, so that a date has the same place in every year.

    Example:
        >>> day_of_year(["2016-02-28", "2016-02-29", "2016-03-01", "2016-12-31", "2015-12-31"]).tolist()
        [59, 59, 60, 365, 365]
    """
    days = pd.DatetimeIndex(np.asarray(dates, dtype="datetime64[D]"))
    is_later = days.is_leap_year & (days.day_of_year > _LAST_OF_FEBRUARY)
    placed: NDArray[np.int64] = (days.day_of_year.to_numpy() - is_later).astype(np.int64)
    return placed


def mean_cycle(values: ArrayLike, dates: ArrayLike) -> NDArray[np.float64]:
    """Return the smoothed mean year.

    Args:
        values: A (T,)-dim array, NaN where there is none.
        dates: The days, (T,).

    Returns:
        A (365,)-dim array in the same unit, NaN where too few days are near.
    """
    series = np.asarray(values, dtype=np.float64)
    known = np.isfinite(series)
    days = day_of_year(dates)[known] - 1
    count = np.bincount(days, minlength=DAYS)
    total = np.bincount(days, series[known], minlength=DAYS)
    apart = np.arange(DAYS)
    kernel = np.exp(-0.5 * np.square(np.minimum(apart, DAYS - apart) / _WIDTH))
    weights = kernel[(apart[:, None] - apart) % DAYS]
    weight = weights @ count
    return np.where(weight >= _LEAST_WEIGHT, weights @ total / np.maximum(weight, _LEAST_WEIGHT), np.nan)


def find_season(cycle: NDArray[np.float64]) -> Season:
    """Find the dates of a mean year.

    Args:
        cycle: From :func:`mean_cycle`, (365,).

    Returns:
        The season. A date beside days without a value is not known, nor is a length that ends at one; there is no date where the
        sign never changes.
    """
    if not np.isfinite(cycle).any():
        return Season(None, None, None, None, float("nan"))
    first, length = _longest_run(cycle > 0)
    peak = int(np.nanargmax(cycle))
    seen = bool(np.isfinite(cycle[[peak - 1, (peak + 1) % len(cycle)]]).all())
    turns = 0 < length < len(cycle)
    starts = turns and bool(np.isfinite(cycle[first - 1]))
    after = (first + length) % len(cycle)
    ends = turns and bool(np.isfinite(cycle[after]))
    last = (after - 1) % len(cycle) + 1
    known = starts and ends if turns else bool(np.isfinite(cycle).all())
    return Season(
        start=first + 1 if starts else None,
        end=last if ends else None,
        length=length if known else None,
        peak_day=peak + 1 if seen else None,
        peak=float(cycle[peak]) if seen else float("nan"),
    )


def _longest_run(is_sink: NDArray[np.bool_]) -> tuple[int, int]:
    """Return place and length of the longest run of true around the circle, the first of equals."""
    if is_sink.all():
        return 0, len(is_sink)
    offset = int(np.argmin(is_sink))
    turned = np.roll(is_sink, -offset).astype(np.int8)
    edges = np.diff(np.r_[0, turned, 0])
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(ends - starts))
    return int(starts[longest] + offset) % len(is_sink), int((ends - starts)[longest])


def date_name(day: int | None) -> str:
    """Return a day of year as people write it, a dash for none.

    Example:
        >>> date_name(1), date_name(60), date_name(None)
        ('1 Jan', '1 Mar', '-')
    """
    if day is None:
        return "-"
    date = pd.Timestamp(2001, 1, 1) + pd.Timedelta(days=day - 1)
    return f"{date.day} {date:%b}"
