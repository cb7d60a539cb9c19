"""Datasets of one place under CF conventions, and how they reach the disk whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..atomic import write_bytes
from ..errors import ResultsError

if TYPE_CHECKING:
    import xarray as xr

#: Dimensions of a flux.
DIMS = ("time", "lat", "lon")
_FILL = -9999.0


def site_dataset(
    dates: NDArray[np.datetime64],
    latitude: float,
    longitude: float,
    series: Mapping[str, tuple[NDArray[np.float64], Mapping[str, str]]],
    attributes: Mapping[str, str],
) -> xr.Dataset:
    """Lay daily means of one place out as (time, lat, lon), with the coordinates that CF asks for.

    Args:
        dates: A (T,)-dim array of days; each starts at 0 h, as `time_bnds` says.
        latitude: [degrees north]
        longitude: [degrees east]
        series: For each variable its values, (T,), NaN where there is none, and its attributes.
        attributes: Global attributes; `Conventions` is added.
    """
    import xarray as xr

    days = (dates.astype("datetime64[D]") - dates[0].astype("datetime64[D]")).astype(np.float64)
    since = f"days since {np.datetime_as_string(dates[0], unit='D')} 00:00:00"
    fluxes = {
        name: (DIMS, values[:, None, None], {**about, "cell_methods": "time: mean"}, {"_FillValue": _FILL})
        for name, (values, about) in series.items()
    }
    time = {"units": since, "calendar": "standard", "standard_name": "time", "axis": "T", "bounds": "time_bnds"}
    coordinates = {
        "time": ("time", days, time, {"_FillValue": None}),
        "lat": ("lat", [latitude], {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"}, {"_FillValue": None}),
        "lon": ("lon", [longitude], {"units": "degrees_east", "standard_name": "longitude", "axis": "X"}, {"_FillValue": None}),
    }
    bounds: Any = (("time", "bnds"), np.stack([days, days + 1.0], axis=1), {}, {"_FillValue": None})
    return xr.Dataset({**fluxes, "time_bnds": bounds}, coordinates, {"Conventions": "CF-1.8", **attributes})


def write_dataset(path: Path, dataset: xr.Dataset) -> None:
    """Write a dataset as NetCDF-4, whole or not at all.

    Raises:
        ResultsError: If the file cannot be written.
    """
    content: Any = dataset.to_netcdf(engine="h5netcdf")
    try:
        write_bytes(path, bytes(content))
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written ({error.strerror}). Choose another place.") from error
