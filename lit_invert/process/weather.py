"""Weather of a site, and other weather that it might have had.

A surrogate trained on one year would learn that year. So each member of the ensemble gets weather of its own: years drawn
from those that were measured, their days moved a little within the season, then warmer or cooler, wetter or drier, brighter
or darker, under more or less carbon dioxide, at a latitude nearby. What belongs together stays together: four temperatures
share their anomaly (soils damped and late), humidity follows temperature, sunlight follows the season's sun.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import solar
from ..errors import ForcingError
from .environment import DRIVERS

Array = NDArray[np.float64]
MEASURED = DRIVERS[:-2]
"""Drivers that are measured; the last two follow from date and latitude."""

BLOCK_DAYS = 30
MAXIMUM_SHIFT = 15  # days that a block moves within its season
ANOMALY_MEMORY = 0.8  # correlation of the temperature anomaly from day to day
ANOMALY_SPREAD = 2.0  # K
SOIL_DAYS, DEEP_SOIL_DAYS = 5.0, 60.0  # time constants of soil temperature at 10 and 200 cm
CO2_TREND = 2.0 / 365.0  # ppm d-1


@dataclass(frozen=True)
class Weather:
    """Measured weather of a site, without gaps.

    Args:
        name: Name of the site.
        latitude: Degrees north.
        dates: A `time`-long array of days.
        measured: A `time x 10` array in the order of `MEASURED`.
    """

    name: str
    latitude: float
    dates: NDArray[np.datetime64]
    measured: Array

    def forcing(self) -> Array:
        """Return the drivers as measured, `time x 12`."""
        return _with_sun(self.measured, self.dates, self.latitude)

    def only(self, years: Collection[int]) -> Weather:
        """Return the days of some calendar years."""
        kept = np.isin(_year(self.dates), list(years))
        return Weather(self.name, self.latitude, self.dates[kept], self.measured[kept])

    @property
    def years(self) -> list[int]:
        """Calendar years of the record."""
        return [int(year) for year in np.unique(_year(self.dates))]


def load_weather(path: Path, latitude: float) -> Weather:
    """Load a site's drivers from a CSV with a `date` column and one column a driver.

    Args:
        path: The file.
        latitude: Degrees north.

    Returns:
        The weather, named after the file.

    Raises:
        ForcingError: If the file cannot be read, or a driver's column is missing or has gaps.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ForcingError(f"{path}: cannot be read as a CSV of drivers ({error}). Check its path.") from error
    missing = [name for name in MEASURED if name not in table]
    if missing:
        raise ForcingError(f"{path}: expected a column for each driver, missing: {', '.join(missing)}.")
    measured = table[list(MEASURED)].to_numpy(dtype=float)
    gaps = np.argwhere(~np.isfinite(measured))
    if gaps.size:
        row, column = gaps[0]
        raise ForcingError(f"{path}: driver {MEASURED[column]!r} has a gap in row {row + 2}; fill it.")
    return Weather(path.stem, latitude, table["date"].to_numpy().astype("datetime64[D]"), measured)


def perturb(weather: Weather, days: int, random: np.random.Generator) -> Array:
    """Draw weather that the site might have had.

    How far it departs from the record is drawn too, evenly from not at all to fully, so that the measured weather lies
    inside the ensemble and not at its edge.

    Args:
        weather: The record, whole years only.
        days: Length of the new record, from a first of January on.
        random: Source of every draw.

    Returns:
        A `days x 12` array of drivers.
    """
    strength = random.uniform()
    start = np.datetime64(f"{random.choice(weather.years)}-01-01", "D")
    dates = start + np.arange(days)
    source = _resample(weather, dates, strength, random)
    latitude = weather.latitude + strength * random.uniform(-3.0, 3.0)
    day = dict(zip(MEASURED, weather.measured[source].T.copy(), strict=True))

    sun_before = solar.top_of_atmosphere(weather.dates[source], weather.latitude)
    sun_now = solar.top_of_atmosphere(dates, latitude)
    day["dswrf"] *= sun_now / sun_before * (1.0 + strength * random.uniform(-0.15, 0.15))
    _warm(day, days, strength, random)
    day["prate"] *= 1.0 + strength * random.uniform(-0.5, 0.6)
    day["wind"] *= 1.0 + strength * random.uniform(-0.3, 0.3)
    day["aco2"] = random.uniform(320.0, 520.0) + CO2_TREND * np.arange(days)
    return _with_sun(np.stack([day[name] for name in MEASURED], axis=1), dates, latitude)


def _resample(weather: Weather, dates: NDArray[np.datetime64], strength: float, random: np.random.Generator) -> NDArray[np.int_]:
    """Return for each new day the row of the record that it takes: the year drawn anew, the day moved within its season."""
    rows = {year: np.flatnonzero(_year(weather.dates) == year) for year in weather.years}
    years = _year(dates)
    blocks = np.arange(len(dates)) // BLOCK_DAYS
    chosen = {year: rows[random.choice(weather.years)] for year in np.unique(years)}
    shifts = np.rint(strength * random.uniform(-MAXIMUM_SHIFT, MAXIMUM_SHIFT, blocks[-1] + 1))
    moved = _day_of_year(dates) + shifts.astype(int)[blocks]
    source = np.empty(len(dates), dtype=int)
    for year, candidates in chosen.items():
        source[years == year] = candidates[moved[years == year] % len(candidates)]
    return source


def _warm(day: dict[str, Array], days: int, strength: float, random: np.random.Generator) -> None:
    """Add an offset and a slowly wandering anomaly to the temperatures; relative humidity stays."""
    offset = strength * random.uniform(-4.0, 4.0)
    shocks = random.normal(0.0, ANOMALY_SPREAD * np.sqrt(1.0 - ANOMALY_MEMORY**2), days)
    anomaly = strength * _filter(shocks / (1.0 - ANOMALY_MEMORY), 1.0 - ANOMALY_MEMORY)
    before = _saturation(day["tmp_2m"])
    for name in ("tmp_sfc", "tmp_2m"):
        day[name] += offset + anomaly
    day["tmp10_soil"] += offset + _filter(anomaly, 1.0 / SOIL_DAYS)
    day["tmp200_soil"] += offset + _filter(anomaly, 1.0 / DEEP_SOIL_DAYS)
    day["spfh"] *= _saturation(day["tmp_2m"]) / before


def _filter(series: Array, share: float) -> Array:
    """Exponential filter that moves by a share of the difference each day, from zero."""
    filtered, level = np.empty_like(series), 0.0
    for t, value in enumerate(series.tolist()):
        level += share * (value - level)
        filtered[t] = level
    return filtered


def _saturation(kelvin: Array) -> Array:
    celsius = kelvin - 273.15
    return np.exp(17.27 * celsius / (celsius + 237.3))


def _with_sun(measured: Array, dates: NDArray[np.datetime64], latitude: float) -> Array:
    sun = solar.day_length(dates, latitude), solar.sun_noon(dates, latitude)
    return np.column_stack([measured, *sun])


def _year(dates: NDArray[np.datetime64]) -> NDArray[np.int_]:
    return np.asarray(dates.astype("datetime64[Y]").astype(int) + 1970)


def _day_of_year(dates: NDArray[np.datetime64]) -> NDArray[np.int_]:
    return np.asarray((dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(int))
