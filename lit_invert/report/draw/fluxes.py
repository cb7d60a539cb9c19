"""What all figures of fluxes share: how a run, a role, a band is drawn.

Every role has a marker of its own, so that a grey print still shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: In drawing order: the process model is a broad band below the surrogate's line, so that a gap between them shows.
RUN_STYLE: Mapping[str, dict[str, Any]] = {
    "prior": {"color": ORANGE, "linewidth": 1.0, "label": "prior"},
    "resimulated": {"color": "#8FD1BC", "linewidth": 2.6, "label": "process model at the optimum"},
    "optimum": {"color": BLUE, "linewidth": 1.0, "label": "optimum"},
}
#: What needs no process model, drawn where it is compared with.
BASELINE_STYLE: Mapping[str, dict[str, Any]] = {
    "season": {"color": PURPLE, "linewidth": 1.0, "linestyle": "--", "label": "baseline: mean season of the fit days"},
    "regression": {"color": GREEN, "linewidth": 1.0, "linestyle": ":", "label": "baseline: regression on the drivers"},
}
ROLE_STYLE: Mapping[str, dict[str, Any]] = {
    "fit": {"marker": "o", "color": "#555555", "markerfacecolor": "#555555"},
    "select": {"marker": "s", "color": BLUE, "markerfacecolor": "white"},
    "test": {"marker": "D", "color": VERMILLION, "markerfacecolor": VERMILLION},
}
_ROLE_SHADE = {"select": SKY, "test": VERMILLION}


def runs_of(fluxes: pd.DataFrame, output: str, *, baselines: bool = False) -> dict[str, dict[str, Any]]:
    """Return the style of each run that a flux was simulated in, in drawing order.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.
        baselines: Whether baselines count, too.
    """
    known = {**RUN_STYLE, **(BASELINE_STYLE if baselines else {})}
    return {name: style for name, style in known.items() if f"{output}_{name}" in fluxes}


def draw_runs(axis: Axes, fluxes: pd.DataFrame, output: str) -> None:
    """Draw the flux of each run day by day."""
    for name, style in runs_of(fluxes, output).items():
        axis.plot(fluxes["date"], fluxes[f"{output}_{name}"], **style)


def draw_bands(axis: Axes, bands: pd.DataFrame | None, output: str) -> None:
    """Draw the 5-95 % bands that there are: of an observation in light, of the parameters alone in dark."""
    if bands is None:
        return
    for low, high, alpha, label in (
        ("low", "high", 0.16, "5-95 %, an observation (parameters, noise, surrogate)"),
        ("p05", "p95", 0.42, "5-95 %, parameters alone"),
    ):
        if f"{output}_{low}" in bands:
            sides = bands[f"{output}_{low}"], bands[f"{output}_{high}"]
            axis.fill_between(bands["date"], *sides, color=BLUE, alpha=alpha, linewidth=0, label=label)


def observed_days(fluxes: pd.DataFrame, output: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each role that has observed days, with these days."""
    for role in ROLE_STYLE:
        days = fluxes[(fluxes["role"] == role) & fluxes[f"{output}_mask"].astype(bool)]
        if len(days):
            yield role, days


def markers(role: str, count: int) -> dict[str, Any]:
    """Return the markers of a role, smaller where there are many."""
    return {**ROLE_STYLE[role], "linestyle": "", "markersize": 3.2 if count < 500 else 1.8, "markeredgewidth": 0.7}


def shade_roles(axis: Axes, fluxes: pd.DataFrame) -> None:
    """Shade the spans of `select` and `test`; days in between without an observation belong to the span around them."""
    seen = fluxes.loc[fluxes["role"] != "unused", ["date", "role"]]
    span = (seen["role"] != seen["role"].shift()).cumsum()
    for _, days in seen.groupby(span):
        role = days["role"].iloc[0]
        if role in _ROLE_SHADE:
            first, last = days["date"].iloc[0], days["date"].iloc[-1]
            axis.axvspan(first, last, color=_ROLE_SHADE[role], alpha=0.13, linewidth=0, zorder=0)
