"""The mean year: its cycle, its running sum, and the sums of single years."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..season import DAYS, mean_cycle
from ..style import BLACK, BLUE, GREY, flux_label, flux_name, legend_below, new_figure, note_sign, styled
from .fluxes import RUN_STYLE, runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Up to so many years fill half a row.
_FEW_YEARS = 2
_MONTHS = ("J", "F", "M", "A", "M", "J", "J", "A", "S", "O", "N", "D")
_STARTS = np.cumsum([1, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])


@styled
def season_figure(
    fluxes: pd.DataFrame,
    output: str,
    annual: Mapping[str, Any],
    bands: pd.DataFrame | None = None,
    uncertainty: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw the mean year of a flux, its running sum, and its sum over each calendar year.

    Args:
        fluxes: Content of fluxes.csv, without warm-up.
        output: Name of the flux.
        annual: `annual_sums` of metrics.json.
        bands: Content of bands.csv, if there is one.
        uncertainty: Content of uncertainty.json, if there is one.
    """
    figure = new_figure(10, 6.4)
    beside = "years" if len(annual) > _FEW_YEARS else "."
    axes = figure.subplot_mosaic([["cycle", "total"], ["years", beside]], height_ratios=[1.25, 1])
    cycle, total, years = axes["cycle"], axes["total"], axes["years"]
    _draw_cycle(cycle, fluxes, output, bands)
    _draw_running_sum(total, fluxes, output)
    _draw_years(years, annual, output, uncertainty)
    note_sign(total, output)
    legend_below(figure, cycle, years)
    return figure


def _draw_cycle(axis: Axes, fluxes: pd.DataFrame, output: str, bands: pd.DataFrame | None) -> None:
    day = np.arange(1, DAYS + 1)
    axis.set_title(f"Mean season of {flux_name(output)}, smoothed")
    axis.axhline(0, color=GREY, linewidth=0.8)
    if bands is not None and f"{output}_p05" in bands:
        low, high = (mean_cycle(bands[f"{output}_{side}"], bands["date"]) for side in ("p05", "p95"))
        axis.fill_between(day, low, high, color=BLUE, alpha=0.42, linewidth=0, label="mean of the daily 5-95 %, parameters alone")
    for name, style in runs_of(fluxes, output, baselines=True).items():
        axis.plot(day, mean_cycle(fluxes[f"{output}_{name}"], fluxes["date"]), **style)
    seen = fluxes[f"{output}_observed"].where(fluxes[f"{output}_mask"].astype(bool))
    axis.plot(day, mean_cycle(seen, fluxes["date"]), color="#333333", linewidth=2, linestyle=":", label="observed days")
    axis.set_ylabel(flux_label(output))
    _month_axis(axis)


def _draw_running_sum(axis: Axes, fluxes: pd.DataFrame, output: str) -> None:
    axis.set_title("Running sum of the mean season")
    axis.axhline(0, color=GREY, linewidth=0.8)
    for name, style in runs_of(fluxes, output).items():
        axis.plot(np.arange(1, DAYS + 1), np.cumsum(mean_cycle(fluxes[f"{output}_{name}"], fluxes["date"])), **style)
    axis.set_ylabel("gC m$^{-2}$")
    _month_axis(axis)


def _draw_years(axis: Axes, annual: Mapping[str, Any], output: str, uncertainty: Mapping[str, Any] | None) -> None:
    """Draw a bar a run and year; short years have fewer days in their label."""
    axis.set_title("Sum of each calendar year, of the simulated days")
    runs = [name for name in ("prior", "resimulated", "optimum") if name in next(iter(annual.values()))[output]]
    width = 0.8 / len(runs)
    for place, name in enumerate(runs):
        left = np.arange(len(annual)) + (place - (len(runs) - 1) / 2) * width
        axis.bar(left, [sums[output][name] for sums in annual.values()], 0.94 * width, color=RUN_STYLE[name]["color"])
        if name == "optimum" and uncertainty is not None:
            _draw_intervals(axis, left, annual, output, uncertainty.get("annual", {}))
    axis.axhline(0, color=GREY, linewidth=0.8)
    labels = [year if sums["days"] > 360 else f"{year}\n({sums['days']} days)" for year, sums in annual.items()]
    axis.set_xticks(range(len(annual)), labels)
    room = max(0.6, 2 - len(annual) / 2)  # one year alone is no wall
    axis.set_xlim(-room, len(annual) - 1 + room)
    axis.set_ylabel("gC m$^{-2}$ yr$^{-1}$")


def _draw_intervals(axis: Axes, left: Any, annual: Mapping[str, Any], output: str, known: Mapping[str, Any]) -> None:
    """Draw the 5-95 % interval of each year that has one."""
    sides = [(x, known[year][output]) for x, year in zip(left, annual, strict=True) if output in known.get(year, {})]
    if sides:
        places, intervals = zip(*sides, strict=True)
        low, high = ([interval[side] for interval in intervals] for side in ("p05", "p95"))
        axis.vlines(places, low, high, color=BLACK, linewidth=1.6, label="5-95 % of the year's sum, parameters alone")


def _month_axis(axis: Axes) -> None:
    axis.set_xticks(_STARTS, _MONTHS)
    axis.set_xlim(1, DAYS)
