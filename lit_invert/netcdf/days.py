"""From the time steps of a NetCDF file to days.

A day's mean is that of all its steps; a day that lacks one has no value. What is given as the amount of a step (rain in mm) is
summed. Days are those of the file's clock, moved by its global attribute `utc_offset` (hours that local standard time is ahead of
UTC) where it has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ObservationError

_DAY = np.timedelta64(1, "D")
_SECONDS = 86_400


@dataclass(frozen=True)
class Days:
    """How the steps of a file fall into days."""

    dates: NDArray[np.datetime64]
    """A (D,)-dim array, without days at either end that the file does not cover whole."""
    place: NDArray[np.intp]
    """A (T,)-dim array: to which day a step belongs; negative, or D and more, for none."""
    steps: int
    """Steps of a whole day."""

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of each day, NaN where a step is missing."""
        return self.total(values) / self.steps

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over each day, NaN where a step is missing."""
        if self.steps == 1:
            return values
        inside = (self.place >= 0) & (self.place < len(self.dates))
        place, kept = self.place[inside], values[inside]
        known = ~np.isnan(kept)
        count = np.bincount(place[known], minlength=len(self.dates))
        total = np.bincount(place[known], weights=kept[known], minlength=len(self.dates))
        return np.where(count == self.steps, total, np.nan)


def find_days(times: NDArray[np.datetime64], path: Path) -> Days:
    """Say how time steps fall into days.

    Args:
        times: A (T,)-dim array, strictly increasing.
        path: The file, for errors.

    Raises:
        ObservationError: If steps are not in order, longer than a day, or no whole number of them makes a day.
    """
    days = times.astype("datetime64[D]")
    seconds = np.diff(times).astype("timedelta64[s]").astype(np.int64)
    if (seconds <= 0).any():
        first = int(np.flatnonzero(seconds <= 0)[0])
        raise ObservationError(f"{path}: time step {first + 2} ({times[first + 1]}) does not come after the one before. Sort them.")
    step = int(np.median(seconds)) if len(seconds) else _SECONDS
    if step == _SECONDS or len(times) == 1:
        return Days(days, np.arange(len(times)), 1)
    if step > _SECONDS or _SECONDS % step:
        raise ObservationError(
            f"{path}: its time steps are {step / 3600:g} h, expected days, or steps of which a whole number makes a day."
        )
    return _whole_days(days, _SECONDS // step, path)


def _whole_days(days: NDArray[np.datetime64], steps: int, path: Path) -> Days:
    """Leave out what the file holds of a day at its beginning and its end, if it is not all of it."""
    found, count = np.unique(days, return_counts=True)
    whole = found[count == steps]
    if not whole.size:
        raise ObservationError(f"{path}: holds no whole day of {steps} time steps.")
    dates = np.arange(whole[0], whole[-1] + _DAY)
    return Days(dates, (days - whole[0]).astype(np.intp), steps)
