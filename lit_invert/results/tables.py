"""The tables of a run: fluxes and weather day by day, and parameters before and after."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..baselines import predict_baselines
from ..observations import Observations
from ..parameters import ParameterSpace
from ..sites import Site
from ..surrogates.base import SurrogateSpec
from ..transforms import ScaledTransform
from .result import InversionResult

#: A parameter is at a bound when it is no further from it than this share of its range: room for a round trip through float32.
AT_BOUND = 1e-5


def flux_table(
    result: InversionResult,
    site: Site,
    test: Observations,
    resimulated: NDArray[np.float64] | None,
    spec: SurrogateSpec,
) -> pd.DataFrame:
    """Lay simulated and observed fluxes side by side, one row a day.

    Args:
        result: The inversion.
        site: The site, with the observed `fit` and `select` days.
        test: The observed `test` days.
        resimulated: Fluxes of the process model at the optimum, (T, V) [gC m-2 d-1].
        spec: Names of the outputs.

    Returns:
        Columns `date`, `role`, and for each output `<output>_prior`, `_optimum` (NaN in the first context of a network of windows),
        `_resimulated` (if given), `_observed`, `_mask` and `_sigma` (if the data give one); of the target also `_season` and
        `_regression`, the baselines that the `fit` days alone teach.
    """
    observed, mask, sigma = _join_roles([site.fit, *([] if site.select is None else [site.select]), test])
    columns: dict[str, object] = {"date": np.datetime_as_string(site.dates, unit="D"), "role": site.roles}
    unknown = np.arange(len(site.dates)) < (spec.windows.context_days if spec.windows is not None else 0)
    for i, name in enumerate(spec.output_names):
        columns[f"{name}_prior"] = np.where(unknown, np.nan, result.simulated_prior[:, i])
        columns[f"{name}_optimum"] = np.where(unknown, np.nan, result.simulated_optimum[:, i])
        if resimulated is not None:
            columns[f"{name}_resimulated"] = resimulated[:, i]
        columns[f"{name}_observed"] = observed[:, i]
        columns[f"{name}_mask"] = mask[:, i]
        if sigma is not None:
            columns[f"{name}_sigma"] = sigma[:, i]
    place = spec.output_names.index(result.target)
    rivals = predict_baselines(site.dates, np.asarray(site.forcing), site.fit.values[:, place], site.fit.mask[:, place])
    columns |= {f"{result.target}_{name}": values for name, values in rivals.items()}
    return pd.DataFrame(columns)


def forcing_table(site: Site) -> pd.DataFrame:
    """Lay out the weather that drove the simulations, one row a day.

    Args:
        site: The site.

    Returns:
        Column `date`, and one a driver in the unit of the surrogate's spec.
    """
    drivers = dict(zip(site.drivers, np.asarray(site.forcing).T, strict=True))
    return pd.DataFrame({"date": np.datetime_as_string(site.dates, unit="D"), **drivers})


def _join_roles(
    parts: list[Observations],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64] | None]:
    """Put the days of all roles into one array; each part is NaN and unmasked outside its own days."""
    values, mask = parts[0].values, parts[0].mask
    sigma = parts[0].sigma
    for part in parts[1:]:
        values = np.where(np.isnan(values), part.values, values)
        mask = mask | part.mask
        if sigma is not None and part.sigma is not None:
            sigma = np.where(np.isnan(sigma), part.sigma, sigma)
    return values, mask, sigma


def parameter_table(result: InversionResult, spec: SurrogateSpec) -> pd.DataFrame:
    """Lay the parameters out before and after, one row a parameter.

    Args:
        result: The inversion.
        spec: Scaling of the static parameters, in which the prior's standard deviation is meant.

    Returns:
        Columns `name`, `unit`, `prior`, `prior_sd`, `min`, `max` (those that hold at the optimum, where a bound is another
        parameter), `scale`, `optimum`, `shift` (in the parameter's unit), `shift_in_sd` (in the scaled space: of the logarithm
        where the surrogate takes one), `at_bound` (empty, `min` or `max`), `fixed` and `description`.
    """
    table = result.table
    prior, optimum = table.prior.numpy(), result.optimum.detach().double().cpu().numpy()
    lower, upper = (side.numpy() for side in table.bounds.resolve(result.optimum.detach().double().cpu()))
    space = ParameterSpace(table, ScaledTransform(spec.static_scaler(), table.bounds))
    shift_in_sd = (result.optimum_scaled - result.prior_scaled).detach().double().cpu() / space.prior_sd_scaled
    return pd.DataFrame(
        {
            "name": table.names,
            "unit": table.units,
            "prior": prior,
            "prior_sd": table.prior_sd.numpy(),
            "min": lower,
            "max": upper,
            "scale": np.where(table.log.numpy(), "log", "lin"),
            "optimum": optimum,
            "shift": optimum - prior,
            "shift_in_sd": shift_in_sd.numpy(),
            "at_bound": _at_bound(optimum, lower, upper, table.fixed.numpy()),
            "fixed": table.fixed.numpy(),
            "description": table.descriptions,
        }
    )


def _at_bound(
    optimum: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    fixed: NDArray[np.bool_],
) -> NDArray[np.str_]:
    """Name the bound that each free parameter has reached; an infinite one is never reached."""
    room = np.where(np.isfinite(upper - lower), AT_BOUND * (upper - lower), 0.0)
    at_min, at_max = ~fixed & (optimum <= lower + room), ~fixed & (optimum >= upper - room)
    return np.where(at_min, "min", np.where(at_max, "max", ""))
