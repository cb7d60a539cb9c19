"""Simulated against observed: point by point, and in a Taylor diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...metrics import pearson_r, scores
from ..style import BLACK, GREY, flux_label, flux_name, new_figure, note_sign, styled
from .fluxes import ROLE_STYLE, markers, observed_days, runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: From so many days on points hide each other, and their density is drawn.
_DENSE = 1000


@styled
def one_to_one_figure(fluxes: pd.DataFrame, output: str) -> Figure:
    """Draw simulated against observed, before and after, with scores of each role; as a density where days are many.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.
    """
    figure = new_figure(9, 5)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    drawn = fluxes.loc[fluxes[f"{output}_mask"], [f"{output}_{name}" for name in ("observed", "prior", "optimum")]].to_numpy()
    ends = np.nanmin(drawn) - 0.05 * np.ptp(drawn), np.nanmax(drawn) + 0.05 * np.ptp(drawn)
    for axis, name in zip(axes, ("prior", "optimum"), strict=True):
        axis.set_title(name.capitalize())
        if len(drawn) > _DENSE:
            days = fluxes[fluxes[f"{output}_mask"].astype(bool)]
            density = axis.hexbin(
                days[f"{output}_observed"], days[f"{output}_{name}"], gridsize=48, extent=(*ends, *ends), cmap="Blues",
                mincnt=1, bins="log", vmin=0.3, linewidths=0.1,
            )  # fmt: skip
            figure.colorbar(density, ax=axis, label="days", shrink=0.6)
        _draw_roles(axis, fluxes, output, name, is_dense=len(drawn) > _DENSE)
        axis.plot(ends, ends, color=GREY, linewidth=1, zorder=3)
        axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"observed {flux_label(output)}")
        axis.legend(loc="upper left", fontsize=8, handletextpad=0.1)
    note_sign(axes[1], output)
    axes[0].set_ylabel(f"simulated {flux_label(output)}")
    return figure


def _draw_roles(axis: Axes, fluxes: pd.DataFrame, output: str, run: str, *, is_dense: bool) -> None:
    for role, days in observed_days(fluxes, output):
        simulated, observed = days[f"{output}_{run}"], days[f"{output}_observed"]
        found = scores(simulated, observed, np.ones(len(days), dtype=bool))
        label = f"{role}: n {found['n']}, RMSE {found['rmse']:.2f}, r {found['r']:.2f}"
        if is_dense:
            axis.plot([], [], linestyle="", label=label)
        else:
            axis.plot(observed, simulated, alpha=0.75, label=label, **markers(role, len(days)))


@styled
def taylor_figure(fluxes: pd.DataFrame, output: str) -> Figure | None:
    r"""Draw correlation, spread and centred error of every run and baseline in one diagram: runs by colour, roles by marker.

    The distance from the origin is :math:`\sigma_s / \sigma_o`, the angle :math:`\arccos r`; by the law of cosines the
    distance from the observation is the centred RMSE over :math:`\sigma_o`.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.

    Returns:
        The figure; None where no role has two days that differ.

    Source:
        Taylor (2001), J. Geophys. Res. 106, 7183-7192, doi:10.1029/2000JD900719.
    """
    points = _taylor_points(fluxes, output)
    if not points:
        return None
    half = min(r for *_, r in points) < 0
    figure = new_figure(7.5, 5.6 if half else 6.6)
    axis = figure.add_subplot(projection="polar")
    radius = max(1.4, 1.1 * max(spread for *_, spread, _ in points))
    axis.set(thetamin=0, thetamax=180 if half else 90, rlim=(0, radius))
    _draw_taylor_grid(axis, radius, half)
    styles = runs_of(fluxes, output, baselines=True)
    for role, run, spread, r in points:
        kind = {"marker": ROLE_STYLE[role]["marker"], "markerfacecolor": "white" if role == "fit" else styles[run]["color"]}
        axis.plot(
            np.arccos(r), spread, linestyle="", color=styles[run]["color"], markersize=7, label=_taylor_label(run, role), **kind
        )
    axis.plot(0, 1, marker="*", markersize=13, color=BLACK, linestyle="", label="observed", clip_on=False, zorder=4)
    axis.set_title(f"Taylor diagram of daily {flux_name(output)}", pad=18)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _taylor_label(run: str, role: str) -> str:
    name = {"resimulated": "process model", "season": "mean season"}.get(run, run)
    return f"{name}, {role} days"


def _taylor_points(fluxes: pd.DataFrame, output: str) -> list[tuple[str, str, float, float]]:
    """Return role, run, spread relative to the observed one and correlation, where they have a meaning."""
    found = []
    for role, days in observed_days(fluxes, output):
        observed = days[f"{output}_observed"]
        for run in runs_of(fluxes, output, baselines=True):
            r = pearson_r(days[f"{output}_{run}"], observed)
            if role != "select" and np.isfinite(r):
                found.append((role, run, float(np.std(days[f"{output}_{run}"]) / np.std(observed)), r))
    return found


def _draw_taylor_grid(axis: Any, radius: float, half: bool) -> None:
    """Label the angle by the correlation, and draw circles of equal centred error around the observation."""
    correlations = np.array([0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0])
    shown = np.unique(np.r_[-correlations, correlations]) if half else correlations
    axis.set_thetagrids(np.degrees(np.arccos(shown)), [f"{value:g}" for value in shown])
    angle, distance = np.meshgrid(np.linspace(0, np.pi if half else np.pi / 2, 90), np.linspace(0, radius, 60))
    error = np.sqrt(np.maximum(1 + distance**2 - 2 * distance * np.cos(angle), 0))
    lines = axis.contour(angle, distance, error, levels=np.arange(0.25, 2, 0.25), colors="#BBBBBB", linewidths=0.7)
    axis.clabel(lines, fontsize=7, fmt="%.2f")
    axis.set_xlabel("spread over the observed spread; grey: centred RMSE over the observed spread", fontsize=8, labelpad=14)
    axis.annotate(
        "correlation", (np.pi / 4, radius * 1.12), rotation=-45, ha="center", va="center", fontsize=8, annotation_clip=False
    )
