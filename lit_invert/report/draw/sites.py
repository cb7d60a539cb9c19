"""Many sites in one figure: where they are, what moved there, and what their plant types have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..style import BLACK, GREY, PALETTE, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: More sites than this have no label of their own.
_LABELLED = 60
_SPREAD = 12


@styled
def map_figure(sites: pd.DataFrame) -> Figure:
    """Draw the sites by longitude and latitude, or in order of their latitude where a longitude is missing.

    Args:
        sites: Content of sites.csv, sites with a result.
    """
    change = sites["rmse_change_percent"].to_numpy(dtype=np.float64)
    reach = max(float(np.nanmax(np.abs(change), initial=0)), 1.0)
    color: dict[str, Any] = {"c": change, "cmap": "PuOr_r", "vmin": -reach, "vmax": reach, "edgecolors": BLACK, "linewidths": 0.6}
    placed = bool(sites["longitude"].notna().all())
    figure = new_figure(10, 4.6 if placed else 3.6)
    axis = figure.add_subplot()
    order = sites["latitude"].rank(method="first")
    x = sites["longitude"] if placed else order
    points = axis.scatter(x, sites["latitude"], s=46, zorder=3, **color)
    if placed:
        _draw_graticule(axis, sites)
    else:
        axis.set(xlabel="sites in order of their latitude (the catalogue has no longitude for all of them)", ylabel="degrees north")
    if len(sites) <= _LABELLED:
        for (left, bottom), names in sites["site"].groupby([x, sites["latitude"]]):
            label = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            axis.annotate(label, (left, bottom), xytext=(5, 4), textcoords="offset points", fontsize=7, parse_math=False)
    figure.colorbar(points, ax=axis, label="change of RMSE [%], less is better", shrink=0.8)
    axis.set_title("Sites, by the change of their error")
    return figure


def _draw_graticule(axis: Axes, sites: pd.DataFrame) -> None:
    """Show the part of the earth where sites are, at least thirty degrees of it, by meridians and parallels."""
    for values, limit, set_range, set_ticks in (
        (sites["longitude"], 180, axis.set_xlim, axis.set_xticks),
        (sites["latitude"], 90, axis.set_ylim, axis.set_yticks),
    ):
        middle, half = (values.max() + values.min()) / 2, max((values.max() - values.min()) * 0.58, 15)
        low, high = max(middle - half, -limit), min(middle + half, limit)
        step = 30 if high - low > 120 else 10
        set_ticks(np.arange(-limit, limit + 1, step))
        set_range(low, high)
    axis.set(xlabel="degrees east", ylabel="degrees north")


@styled
def shift_figure(parameters: pd.DataFrame, order: list[str]) -> Figure:
    """Draw the shift of every parameter at every site.

    Args:
        parameters: Content of the run's parameters.csv.
        order: The sites, in the order of the rows.
    """
    reach = max(float(np.nanquantile(np.abs(parameters["shift_in_sd"]), 0.99)), 0.5)
    colors = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    return _heat_map(parameters, "shift_in_sd", order, "Shift of each parameter at each site", "shift [prior sd]", colors)


@styled
def information_figure(parameters: pd.DataFrame, order: list[str]) -> Figure:
    """Draw how much the data of every site told of every parameter.

    Args:
        parameters: Content of the run's parameters.csv, with `sd_reduction_percent`.
        order: The sites, in the order of the rows.
    """
    colors = {"cmap": "Greens", "vmin": 0, "vmax": 100}
    title = "What the data of each site told of each parameter"
    return _heat_map(parameters, "sd_reduction_percent", order, title, "sd less than the prior's [%]", colors)


def _heat_map(parameters: pd.DataFrame, column: str, order: list[str], title: str, label: str, colors: Mapping[str, Any]) -> Figure:
    """Draw one column of parameters.csv, a row a site and a column a parameter."""
    values = parameters.pivot(index="site", columns="name", values=column).loc[order, list(dict.fromkeys(parameters["name"]))]
    labelled = len(order) <= _LABELLED
    figure = new_figure(10, 2 + (0.2 * len(order) if labelled else 8))
    axis = figure.add_subplot()
    image = axis.imshow(values.to_numpy(dtype=np.float64), aspect="auto", interpolation="nearest", **colors)
    axis.set_xticks(range(values.shape[1]), list(values.columns), rotation=90, fontsize=7.5, parse_math=False)
    if labelled:
        axis.set_yticks(range(len(order)), order, fontsize=7.5, parse_math=False)
    else:
        axis.set_ylabel(f"{len(order)} sites, by plant type and latitude")
    axis.set_title(title)
    axis.grid(False)
    figure.colorbar(image, ax=axis, label=label, shrink=0.8)
    return figure


@styled
def spread_figure(parameters: pd.DataFrame, plant_types: pd.Series) -> Figure:
    """Draw the shifts of the parameters that sites disagree on most, by plant type.

    Args:
        parameters: Content of the run's parameters.csv.
        plant_types: Plant type of each site, by its name.
    """
    shifts = parameters.pivot(index="site", columns="name", values="shift_in_sd")
    order = shifts.std(ddof=0).sort_values(ascending=False, kind="stable").index[:_SPREAD]
    kinds = sorted(set(plant_types))
    figure = new_figure(10, 3.8)
    axis = figure.add_subplot()
    axis.axhline(0, color=GREY, linewidth=0.8)
    for i, kind in enumerate(kinds):
        own = shifts.loc[plant_types.index[plant_types == kind], order]
        left = np.arange(len(order)) + 0.7 * ((i + 0.5) / len(kinds) - 0.5)
        color = PALETTE[i % len(PALETTE)]
        middle = own.median().to_numpy()
        axis.plot(np.repeat(left, len(own)), own.to_numpy().T.ravel(), linestyle="", marker=".", color=color, alpha=0.6)
        width = 0.3 / len(kinds)
        axis.hlines(
            middle, left - width, left + width, color=color, linewidth=2.4, label=f"{kind or 'no type'} (n = {len(own)}), median"
        )
    axis.set_xticks(range(len(order)), list(order), rotation=45, ha="right", fontsize=8, parse_math=False)
    axis.set(ylabel="shift [prior sd]", title="Parameters that sites disagree on, by plant type")
    axis.legend(fontsize=8, ncols=4, loc="best")
    return figure
