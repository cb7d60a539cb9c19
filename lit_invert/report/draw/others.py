"""The fluxes beside the target: what nobody measured is a forecast, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ..style import GREY, UNIT, date_axis, flux_name, legend_below, new_figure, standing, styled
from .fluxes import draw_bands, draw_runs, markers, observed_days, runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CUE_DAYS = 31
#: Carbon-use efficiency is not shown where GPP is below this share of its largest mean.
_LEAST_GPP = 0.1
_CUE_LIMITS = (0.3, 0.7)


@styled
def fluxes_figure(fluxes: pd.DataFrame, outputs: Sequence[str], bands: pd.DataFrame | None = None) -> Figure:
    """Draw the other fluxes before and after, with Reco and carbon-use efficiency where they follow from them.

    Args:
        fluxes: Content of fluxes.csv.
        outputs: Names of the fluxes.
        bands: Content of bands.csv, if there is one.
    """
    derived = [name for name, parts in (("reco", ("gpp", "nep")), ("cue", ("npp", "gpp"))) if _has(fluxes, parts)]
    rows = len(outputs) + len(derived)
    figure = new_figure(10, 0.6 + 1.75 * rows)
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axis, output in zip(axes, outputs, strict=False):
        axis.set_title(_titled(flux_name(output), standing(fluxes, output)))
        draw_bands(axis, bands, output)
        draw_runs(axis, fluxes, output)
        for role, days in observed_days(fluxes, output):
            axis.plot(days["date"], days[f"{output}_observed"], **markers(role, len(fluxes)))
        axis.set_ylabel(UNIT)
    for axis, name in zip(axes[len(outputs) :], derived, strict=True):
        if name == "reco":
            _draw_reco(axis, fluxes)
        else:
            _draw_cue(axis, fluxes)
    date_axis(axes[-1], fluxes)
    legend_below(figure, axes[0])
    return figure


def _has(fluxes: pd.DataFrame, parts: Sequence[str]) -> bool:
    return all(f"{part}_optimum" in fluxes for part in parts)


def _titled(name: str, held_by: str) -> str:
    return f"{name}, {held_by}" if held_by else name


def _draw_reco(axis: Axes, fluxes: pd.DataFrame) -> None:
    axis.set_title(_titled("Reco = GPP \N{MINUS SIGN} NEP", standing(fluxes, "gpp", "nep")))
    for name, style in runs_of(fluxes, "gpp").items():
        axis.plot(fluxes["date"], fluxes[f"gpp_{name}"] - fluxes[f"nep_{name}"], **style)
    axis.set_ylabel(UNIT)


def _draw_cue(axis: Axes, fluxes: pd.DataFrame) -> None:
    low, high = _CUE_LIMITS
    axis.set_title(f"Carbon-use efficiency NPP / GPP over {_CUE_DAYS} days (grey: {low:g} to {high:g}, where ecosystems are)")
    axis.axhspan(low, high, color="#EEEEEE", zorder=0)
    for name, style in runs_of(fluxes, "gpp").items():
        npp, gpp = (fluxes[f"{part}_{name}"].rolling(_CUE_DAYS, center=True, min_periods=1).mean() for part in ("npp", "gpp"))
        axis.plot(fluxes["date"], (npp / gpp).where(gpp > _LEAST_GPP * gpp.max()), **style)
    axis.axhline(0, color=GREY, linewidth=0.5)
    axis.set_ylim(-0.2, 1.0)
    axis.set_ylabel("NPP / GPP")
