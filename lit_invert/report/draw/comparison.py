"""Several runs in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..style import GREY, PALETTE, date_axis, flux_label, flux_name, legend_below, new_figure, note_sign, styled
from .fluxes import markers, observed_days

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "D", "^", "v", "P")


@styled
def overlay_figure(fluxes: Sequence[pd.DataFrame], names: Sequence[str], sites: Sequence[str], output: str) -> Figure:
    """Draw the optimum of each run over the observed days, a panel a site.

    Args:
        fluxes: Content of each run's fluxes.csv.
        names: What the runs are called.
        sites: Their sites.
        output: Name of the flux.
    """
    panels = list(dict.fromkeys(sites))
    figure = new_figure(10, 0.8 + 3 * len(panels))
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, site in zip(axes, panels, strict=True):
        members = [i for i, own in enumerate(sites) if own == site]
        first = fluxes[members[0]]
        axis.set_title(f"{site}: {flux_name(output)}", parse_math=False)
        axis.axhline(0, color=GREY, linewidth=0.8)
        for i in members:
            color, dashes = PALETTE[i % len(PALETTE)], ("-", "--", ":", "-.")[i // len(PALETTE) % 4]
            axis.plot(fluxes[i]["date"], fluxes[i][f"{output}_optimum"], color=color, linestyle=dashes, linewidth=1, label=names[i])
        for role, days in observed_days(first, output):
            axis.plot(
                days["date"], days[f"{output}_observed"], label=f"observed, {role} days", **markers(role, len(first)), zorder=1
            )
        axis.set_ylabel(flux_label(output))
        note_sign(axis, output)
        date_axis(axis, first)
    legend_below(figure, *axes)
    return figure


@styled
def shifts_figure(parameters: Sequence[pd.DataFrame], names: Sequence[str]) -> Figure:
    """Draw the shift of every parameter in each run.

    Args:
        parameters: Content of each run's parameters.csv.
        names: What the runs are called.
    """
    shifts = pd.concat([table.set_index("name")["shift_in_sd"] for table in parameters], axis=1, keys=range(len(names)))
    figure = new_figure(10, 3.8)
    axis = figure.add_subplot()
    axis.axhline(0, color=GREY, linewidth=0.8)
    for i, name in enumerate(names):
        left = np.arange(len(shifts)) + 0.5 * ((i + 0.5) / len(names) - 0.5)
        color, marker = PALETTE[i % len(PALETTE)], _MARKERS[i % len(_MARKERS)]
        axis.plot(left, shifts[i], linestyle="", marker=marker, markersize=4.5, color=color, label=name)
    axis.set_xticks(range(len(shifts)), list(shifts.index), rotation=90, fontsize=7.5, parse_math=False)
    axis.set(xlim=(-0.7, len(shifts) - 0.3), ylabel="shift [prior sd]", title="Shift from the prior")
    legend_below(figure, axis)
    return figure
