"""NetCDF files of one site, read as any other daily table.

Columns are the variables that depend on time alone (besides `lat`, `lon` and others of length one), under their own names. A
variable that says by its `standard_name` which driver it is stands under the driver's name, too, unless the file has that name
already or two variables say the same. The file's `units`, and the direction that a flux states, go with the table: they need no
config, and the config may not contradict them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import ObservationError
from .days import Days, find_days
from .extra import check_extra
from .names import AMOUNTS, STANDARD_NAMES, direction_of, unit_of

if TYPE_CHECKING:
    import xarray as xr

    from ..sites import DataSettings

#: Calendars in which every day is a day of the real one.
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_PLACES = {"latitude": ("lat", "latitude", "nav_lat"), "longitude": ("lon", "longitude", "nav_lon")}
_ALL_PLACES = {name for names in _PLACES.values() for name in names}


class NetcdfReader:
    """NetCDF of one site, daily or with shorter steps; needs the extra `netcdf`."""

    name = "netcdf"

    def can_read(self, path: Path) -> bool:
        """Take `.nc`, `.nc4` and `.cdf`."""
        return path.suffix.lower() in {".nc", ".nc4", ".cdf"}

    def read(self, path: Path, settings: DataSettings) -> pd.DataFrame:
        """Read the file; rows count from 1, as days.

        Returns:
            The frame; its `attrs` hold `units` and `signs` by column, and `notes`.
        """
        dataset = open_dataset(path)
        times, note = _times(dataset, path)
        days = find_days(times, path)
        columns: dict[str, Any] = {"date": np.datetime_as_string(days.dates, unit="D"), **_place_of(dataset, path)}
        units: dict[str, str] = {}
        signs: dict[str, str] = {}
        for name, variable in _columns(dataset):
            unit = unit_of(variable.attrs, name)
            columns[name], unit = _daily(days, variable, unit)
            units |= {name: unit} if unit else {}
            sign = direction_of(variable.attrs)
            signs |= {name: sign} if sign else {}
        frame = pd.DataFrame(columns, index=pd.RangeIndex(1, len(days.dates) + 1))
        frame.attrs = {"units": units, "signs": signs, "notes": _notes(path, days, note)}
        return frame


def open_dataset(path: Path) -> xr.Dataset:
    """Read a NetCDF file into memory, with time as dates.

    Raises:
        ConfigError: If the extra is not installed.
        ObservationError: If the file is not NetCDF-4, or its calendar is not the real one.
    """
    check_extra(path)
    import xarray as xr

    if path.read_bytes()[:3] == b"CDF":
        raise ObservationError(f"{path}: is classic NetCDF, expected NetCDF-4. Convert it: nccopy -k nc4 {path.name} new.nc.")
    try:
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as dataset:
            loaded = dataset.load()
    except (OSError, ValueError, KeyError) as error:
        raise ObservationError(f"{path}: is not a NetCDF file ({' '.join(str(error).split())}).") from error
    _check_calendar(loaded, path)
    try:
        return xr.decode_cf(loaded, decode_timedelta=False)
    except (ValueError, OverflowError) as error:
        raise ObservationError(f"{path}: its times cannot be read ({' '.join(str(error).split())}).") from error


def _check_calendar(dataset: xr.Dataset, path: Path) -> None:
    if "time" not in dataset.variables or dataset["time"].ndim != 1:
        raise ObservationError(
            f"{path}: has no variable 'time' along a dimension 'time'. Found: {', '.join(map(str, dataset.variables))}."
        )
    calendar = str(dataset["time"].attrs.get("calendar", "standard")).lower()
    if calendar not in _CALENDARS:
        raise ObservationError(
            f"{path}: its calendar is {calendar!r}, expected one of {', '.join(_CALENDARS)}: a tower has leap days. "
            "Write the file anew on real dates, with every 29 February."
        )
    if " since " not in str(dataset["time"].attrs.get("units", "")):
        raise ObservationError(f"{path}: `time` has no units such as 'days since 2000-01-01'. Add them.")


def _times(dataset: xr.Dataset, path: Path) -> tuple[NDArray[np.datetime64], str]:
    """Return the time of every step, and what was done to the clock."""
    times = _middles(dataset)
    if not len(times) or np.isnat(times).any():
        raise ObservationError(f"{path}: `time` is empty or has missing values.")
    offset = dataset.attrs.get("utc_offset")
    if offset is None or len(times) < 2 or times[1] - times[0] >= np.timedelta64(1, "D"):
        return times, ""
    try:
        hours = float(np.ravel(offset)[0])
    except ValueError:
        raise ObservationError(f"{path}: global attribute `utc_offset` is {offset!r}, expected hours, such as 1 or -6.") from None
    moved: NDArray[np.datetime64] = times + np.timedelta64(round(hours * 3600), "s")
    return moved, f", in local standard time (UTC {hours:+g} h)"


def _middles(dataset: xr.Dataset) -> NDArray[np.datetime64]:
    """Return the time of every step: its middle, where the file has bounds, since some stamp a step with its end."""
    bounds = dataset["time"].attrs.get("bounds", "")
    if bounds not in dataset.variables:
        return dataset["time"].to_numpy().astype("datetime64[s]")
    edges = dataset[bounds].to_numpy().astype("datetime64[s]")
    middles: NDArray[np.datetime64] = edges[:, 0] + (edges[:, 1] - edges[:, 0]) // 2
    return middles


def _columns(dataset: xr.Dataset) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield every series of numbers by its name, and again by that of the driver it says to be."""
    series = {str(name): dataset[name].squeeze(_narrow(dataset[name])) for name in dataset.variables if _is_series(dataset[name])}
    yield from series.items()
    said: dict[str, list[str]] = {}
    for name, variable in series.items():
        driver = STANDARD_NAMES.get(str(variable.attrs.get("standard_name", "")))
        if driver is not None and driver not in series:
            said.setdefault(driver, []).append(name)
    yield from ((driver, series[names[0]]) for driver, names in said.items() if len(names) == 1)


def _narrow(variable: xr.DataArray) -> list[Any]:
    return [dimension for dimension, size in variable.sizes.items() if dimension != "time" and size == 1]


def _is_series(variable: xr.DataArray) -> bool:
    is_number = variable.dtype.kind in "fiu" and variable.name not in _ALL_PLACES
    return is_number and "time" in variable.dims and len(_narrow(variable)) == variable.ndim - 1


def _daily(days: Days, variable: xr.DataArray, unit: str | None) -> tuple[NDArray[np.float64], str | None]:
    """Return a variable's days: the mean of a rate or state, the sum of an amount as a rate."""
    values = variable.to_numpy().astype(np.float64)
    if unit is None or unit not in AMOUNTS:
        return days.mean(values), unit
    rate, factor = AMOUNTS[unit]
    return days.total(values) * factor, rate


def _place_of(dataset: xr.Dataset, path: Path) -> dict[str, float]:
    """Return latitude and longitude, where the file holds one of each.

    Raises:
        ObservationError: If it holds several.
    """
    place = {}
    for what, names in _PLACES.items():
        name = next((name for name in names if name in dataset.variables), None)
        values = np.unique(dataset[name].to_numpy()) if name is not None else np.array([])
        if len(values) > 1:
            raise ObservationError(f"{path}: holds {len(values)} places along {name!r}, expected one. Cut out the site's first.")
        if len(values):
            place[what] = float(values[0])
    return place


def _notes(path: Path, days: Days, clock: str) -> tuple[str, ...]:
    return () if days.steps == 1 else (f"{path.name}: its {days.steps} time steps a day were put together to days{clock}.",)
