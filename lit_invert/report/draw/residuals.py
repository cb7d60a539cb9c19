"""Simulated minus observed, against time and against the weather."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..style import BLACK, BLUE, GREY, ORANGE, UNIT, date_axis, flux_name, legend_below, new_figure, note_sign, styled
from .fluxes import markers, observed_days

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Drivers that are shown, the first of each row that a run has, and what they are called.
_WEATHER = (
    {"tmp_2m": "air temperature", "tmp_sfc": "surface temperature"},
    {"dswrf": "shortwave radiation"},
    {"vpd": "vapour pressure deficit", "spfh": "specific humidity"},
    {"prate": "precipitation"},
)
_BINS = 10


@styled
def residuals_figure(fluxes: pd.DataFrame, output: str) -> Figure:
    """Draw simulated minus observed against time, before and after, with monthly means.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.
    """
    figure = new_figure(10, 5)
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    for axis, name in zip(axes, ("prior", "optimum"), strict=True):
        axis.set_title(f"{name.capitalize()}: simulated minus observed {flux_name(output)}")
        axis.axhline(0, color=GREY, linewidth=0.8)
        _draw_days(axis, fluxes, output, name)
        axis.set_ylabel(UNIT)
    note_sign(axes[0], output)
    date_axis(axes[-1], fluxes)
    legend_below(figure, axes[0])
    return figure


def _draw_days(axis: Axes, fluxes: pd.DataFrame, output: str, name: str) -> None:
    for role, days in observed_days(fluxes, output):
        residual = days[f"{output}_{name}"] - days[f"{output}_observed"]
        axis.plot(days["date"], residual, label=f"{role} days", **markers(role, len(fluxes)))
    residual = (fluxes[f"{output}_{name}"] - fluxes[f"{output}_observed"]).where(fluxes[f"{output}_mask"])
    monthly = residual.groupby(fluxes["date"].to_numpy().astype("datetime64[M]")).mean()
    middle = monthly.index.to_numpy() + np.timedelta64(14, "D")
    axis.plot(middle, monthly, color=BLACK, linewidth=1.2, label="monthly mean")


@styled
def weather_figure(fluxes: pd.DataFrame, output: str, forcing: pd.DataFrame, units: Mapping[str, str]) -> Figure | None:
    """Draw simulated minus observed against the weather of the day, with means of bins that hold as many days each.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.
        forcing: Content of forcing.csv.
        units: Unit of each driver.

    Returns:
        The figure; None where no driver that is shown varies, or too few days were observed.
    """
    mask = fluxes[f"{output}_mask"].to_numpy(dtype=bool)
    weather = forcing[mask]
    shown = {
        name: label
        for row in _WEATHER
        for name, label in [next(((n, text) for n, text in row.items() if n in weather), ("", ""))]
        if name and np.ptp(weather[name]) > 0
    }
    if not shown or mask.sum() < 2 * _BINS:
        return None
    figure = new_figure(10, 3.6)
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    observed = fluxes.loc[mask, f"{output}_observed"].to_numpy()
    for axis, (name, label) in zip(axes, shown.items(), strict=True):
        values, unit = _for_people(weather[name].to_numpy(), units.get(name, ""))
        axis.axhline(0, color=GREY, linewidth=0.8)
        for run, color in (("prior", ORANGE), ("optimum", BLUE)):
            residual = fluxes.loc[mask, f"{output}_{run}"].to_numpy() - observed
            if run == "optimum":
                axis.plot(
                    values, residual, linestyle="", marker=".", markersize=2.5, color="#AAAAAA", label="optimum, a day", zorder=1
                )
            center, mean, error = bin_means(values, residual)
            axis.errorbar(
                center, mean, error, color=color, marker="o", markersize=4, linewidth=1.2, label=f"{run}, mean and its error"
            )
        axis.set_xlabel(f"{label} [{unit}]", parse_math=False)
    axes[0].set_ylabel(f"simulated minus observed\n{flux_name(output)} [{UNIT}]")
    note_sign(axes[-1], output)
    legend_below(figure, axes[0])
    return figure


def _for_people(values: NDArray[np.float64], unit: str) -> tuple[NDArray[np.float64], str]:
    """Turn kelvin into degrees Celsius, and rain into millimetres a day."""
    factor, offset, name = {"K": (1.0, -273.15, "°C"), "kg m-2 s-1": (86_400.0, 0.0, "mm d-1")}.get(unit, (1.0, 0.0, unit))
    return factor * values + offset, name


def bin_means(
    values: NDArray[np.float64], residual: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean weather, mean residual and its standard error in ten bins that hold as many days each.

    Args:
        values: A driver, (n,).
        residual: Simulated minus observed, (n,).

    Returns:
        Three arrays, one entry a bin; days of equal weather stay in one bin, so that there may be fewer.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    count = np.bincount(place)
    used = np.flatnonzero(count > 1)
    center, mean, square = (np.bincount(place, series)[used] / count[used] for series in (values, residual, residual**2))
    variance = np.maximum(square - mean**2, 0) / (count[used] - 1)
    return center, mean, np.sqrt(variance)
