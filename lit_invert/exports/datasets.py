"""A run as one CF dataset: simulated and observed fluxes, bands, and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..netcdf import site_dataset
from ..results import Run
from .callmip import FLUXES

if TYPE_CHECKING:
    import xarray as xr

#: CF has no unit of carbon: the standard name, or `comment`, says that these are grams of it.
_UNIT = {"units": "g m-2 d-1", "comment": "grams of carbon"}
_WORDS = {
    "prior": "prior run",
    "optimum": "run at the optimum",
    "resimulated": "process model at the optimum",
    "observed": "observed",
    "sigma": "standard deviation of the observation",
}
_BANDS = {
    "p05": "5 % of the posterior of the simulated flux",
    "p50": "median of the posterior of the simulated flux",
    "p95": "95 % of the posterior of the simulated flux",
    "parameter_sd": "standard deviation by the parameters",
    "noise_sd": "standard deviation by the noise of an observation",
    "surrogate_sd": "standard deviation by the surrogate",
    "low": "5 % of an observation",
    "high": "95 % of an observation",
}


def run_dataset(run: Run, longitude: float) -> xr.Dataset:
    """Lay a run out as one dataset; its variables are the columns of the run's tables, those of parameters along `parameter`.

    Args:
        run: A finished run.
        longitude: Of the site [degrees east].
    """
    dates = run.fluxes["date"].to_numpy().astype("datetime64[D]")
    site = str(run.metrics["site"])
    attributes = {
        "title": f"Inversion of static parameters at {site}",
        "site": site,
        "source": "lit-invert",
        "history": str(run.provenance["command"]),
    }
    series = dict(_series(run, run.fluxes, _WORDS))
    if run.bands is not None:
        aligned = run.bands.set_index("date").reindex(run.fluxes["date"])
        series |= dict(_series(run, aligned, _BANDS))
    dataset = site_dataset(dates, run.metrics["latitude"], longitude, series, attributes)
    parameters = run.parameters if run.posterior is None else _with_posterior(run.parameters, run.posterior)
    return dataset.assign({name: ("parameter", values) for name, values in _columns(parameters)}).assign_coords(
        parameter=("parameter", parameters["name"].astype(object).to_numpy(), {"long_name": "static parameter"})
    )


def _series(run: Run, table: pd.DataFrame, words: dict[str, str]) -> Iterator[tuple[str, tuple[Any, dict[str, str]]]]:
    """Yield the columns of a table that are a flux, with their attributes."""
    for flux in run.outputs:
        long_name, standard_name = FLUXES.get(flux, (flux, ""))
        for ending, meaning in words.items():
            if f"{flux}_{ending}" in table:
                about = {"long_name": f"{long_name}: {meaning}", **_UNIT}
                if standard_name and not ending.endswith(("sd", "sigma")):
                    about["standard_name"] = standard_name
                yield f"{flux}_{ending}", (table[f"{flux}_{ending}"].to_numpy(dtype=np.float64), about)


def _with_posterior(parameters: pd.DataFrame, posterior: pd.DataFrame) -> pd.DataFrame:
    """Return the parameters with what their posterior adds, under names of its own where both have one."""
    added = posterior.set_index("name").reindex(parameters["name"]).reset_index(drop=True)
    return parameters.join(added.drop(columns=[name for name in added if name in parameters]))


def _columns(parameters: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """Yield every column but the names, text as text."""
    for name in parameters.columns.drop("name"):
        values = parameters[name]
        if pd.api.types.is_bool_dtype(values):
            yield f"parameter_{name}", values.to_numpy().astype(np.int8)
        elif pd.api.types.is_numeric_dtype(values):
            yield f"parameter_{name}", values.to_numpy(dtype=np.float64)
        else:
            yield f"parameter_{name}", values.fillna("").astype(str).astype(object).to_numpy()
