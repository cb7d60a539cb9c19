"""The validator of CalLMIP files: what a reader of the intercomparison would stumble over, a sentence each.

It reads the file anew and knows nothing of how it was written, so it serves files of other makers as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import LitInvertError
from ..netcdf.names import direction_of
from ..netcdf.reader import open_dataset
from ..netcdf.writing import DIMS
from ..observations import FLUX_UNITS, LARGEST_FLUX
from .callmip import FLUXES, STAGES, UNCERTAINTY, UNIT

if TYPE_CHECKING:
    import xarray as xr

_NAME = re.compile(
    r"(?P<Model>[A-Za-z0-9-]+)\.[A-Za-z0-9.-]+_Phase(?P<CalLMIP_Phase>[^_]+)_Scen(?P<Calibration_Scenario>[^_]+)_(?P<site>[^_]+)"
    r"_(?P<Cal_Val>Cal|Val)_(?P<Calibration_stage>Prior|Posterior)\.nc"
)
_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "Model": (),
    "CalLMIP_Phase": (),
    "Calibration_Scenario": (),
    "Calibration_stage": tuple(STAGES),
    "Cal_Val": ("Cal", "Val"),
}
_REQUIRED = ("nep", "gpp", "reco")
#: Share of days that must have a flux: a model has no gaps but its warm-up.
_FINITE_SHARE = 0.9
#: gpp - nep - reco may be off by rounding to float32, as a share of the largest flux.
_ROUNDING = 1e-5


def check_callmip(path: Path) -> list[str]:
    """Look for what is wrong with a file for CalLMIP.

    Args:
        path: The file.

    Returns:
        Its faults, a sentence each; none if it is well.
    """
    try:
        dataset = open_dataset(path)
    except OSError as error:
        return [f"the file cannot be opened ({error.strerror})"]
    except LitInvertError as error:
        return [str(error)]
    return [*_name_faults(path, dataset), *_coordinate_faults(dataset), *_variable_faults(dataset), *_balance_faults(dataset)]


def _name_faults(path: Path, dataset: xr.Dataset) -> Iterator[str]:
    name = _NAME.fullmatch(path.name)
    if name is None:
        yield f"file name {path.name!r}: expected <model>.<version>_Phase1b_Scen2_<Site>_Cal_Posterior.nc"
    for attribute, known in _ATTRIBUTES.items():
        if attribute not in dataset.attrs:
            yield f"global attribute {attribute} is missing"
            continue
        value = str(dataset.attrs[attribute])
        if known and value not in known:
            yield f"global attribute {attribute} is {value!r}, expected one of {', '.join(known)}"
        elif name is not None and name[attribute] != value:
            yield f"global attribute {attribute} is {value!r}, but the file name says {name[attribute]!r}"


def _coordinate_faults(dataset: xr.Dataset) -> Iterator[str]:
    for name, unit, largest in (("lat", "degrees_north", 90.0), ("lon", "degrees_east", 360.0)):
        if name not in dataset.coords:
            yield f"coordinate {name} is missing"
            continue
        values = dataset[name].to_numpy()
        if values.shape != (1,) or not np.abs(values[0]) <= largest:
            yield f"coordinate {name}: expected one number of degrees, found {values.tolist()}"
        if dataset[name].attrs.get("units") != unit:
            yield f"coordinate {name}: units are {dataset[name].attrs.get('units')!r}, expected {unit!r}"
    days = np.diff(dataset["time"].to_numpy())
    if (days != np.timedelta64(1, "D")).any():
        yield "coordinate time: expected one value a day, without a gap"


def _variable_faults(dataset: xr.Dataset) -> Iterator[str]:
    is_posterior = dataset.attrs.get("Calibration_stage") == "Posterior"
    required = (*_REQUIRED, *((UNCERTAINTY,) if is_posterior else ()))
    for name in dict.fromkeys((*required, *FLUXES, UNCERTAINTY)):
        if name not in dataset:
            if name in required:
                yield f"variable {name} is missing"
            continue
        yield from _faults_of(dataset[name], name)


def _faults_of(variable: xr.DataArray, name: str) -> Iterator[str]:
    if variable.dims != DIMS:
        yield f"variable {name}: dimensions are {variable.dims}, expected {DIMS}"
    if variable.attrs.get("units") != UNIT:
        yield f"variable {name}: units are {variable.attrs.get('units')!r}, expected {UNIT!r}"
    if name in ("nep", UNCERTAINTY) and direction_of(variable.attrs) != "nep":
        yield f"variable {name}: neither standard_name nor `positive` says that it is positive into the land"
    values = variable.to_numpy()
    known = np.isfinite(values)
    if known.mean() < _FINITE_SHARE:
        yield f"variable {name}: {known.mean():.0%} of the days have a value, expected {_FINITE_SHARE:.0%} or more"
    largest = np.abs(values[known]).max(initial=0.0) * FLUX_UNITS[UNIT]
    if not 0.0 < largest <= LARGEST_FLUX:
        yield f"variable {name}: its largest magnitude is {largest:.3g} gC m-2 d-1, so its values are not in {UNIT}"
    if name == UNCERTAINTY and (values[known] < 0).any():
        yield f"variable {name}: a standard deviation is negative"


def _balance_faults(dataset: xr.Dataset) -> Iterator[str]:
    if not set(_REQUIRED) <= set(dataset.variables):
        return
    nep, gpp, reco = (dataset[name].to_numpy().ravel() for name in _REQUIRED)
    if len({nep.size, gpp.size, reco.size}) == 1 and np.nanmax(np.abs(gpp - reco - nep), initial=0.0) > _ROUNDING * np.nanmax(
        np.abs(gpp), initial=0.0
    ):
        yield "nep is not gpp - reco; if nep is -(gpp - reco), its sign is that of NEE"
