"""Figures of fluxes: series, residuals, one-to-one, and what nobody measured.

Every role has a marker of its own, so that a grey print still shows it. All take the table of fluxes as it stands in fluxes.csv.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..metrics import scores
from .style import BLACK, BLUE, GREY, ORANGE, SKY, UNIT, VERMILLION, date_axis, legend_below, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: In drawing order: the process model is a broad band below the surrogate's line, so that a gap between them shows.
_RUN_STYLE: Mapping[str, dict[str, Any]] = {
    "prior": {"color": ORANGE, "linewidth": 1.0, "label": "prior"},
    "resimulated": {"color": "#8FD1BC", "linewidth": 2.6, "label": "process model at the optimum"},
    "optimum": {"color": BLUE, "linewidth": 1.0, "label": "optimum"},
}
_ROLE_STYLE: Mapping[str, dict[str, Any]] = {
    "fit": {"marker": "o", "color": "#555555", "markerfacecolor": "#555555"},
    "select": {"marker": "s", "color": BLUE, "markerfacecolor": "white"},
    "test": {"marker": "D", "color": VERMILLION, "markerfacecolor": VERMILLION},
}
_ROLE_SHADE = {"select": SKY, "test": VERMILLION}


@styled
def nep_figure(
    dates: NDArray[np.datetime64],
    roles: NDArray[np.str_],
    observed: NDArray[np.float64],
    mask: NDArray[np.bool_],
    runs: Mapping[str, NDArray[np.float64]],
    output: str = "nep",
) -> Figure:
    """Draw one flux as a small series, for TensorBoard.

    Args:
        dates: A (T,)-dim array of days.
        roles: The role of each day, (T,).
        observed: The observed flux, (T,) [gC m-2 d-1].
        mask: True where observed, (T,).
        runs: Simulated flux by run, `prior` and `optimum`, each (T,) [gC m-2 d-1].
        output: Name of the flux.
    """
    columns = {f"{output}_{name}": values for name, values in runs.items()}
    fluxes = pd.DataFrame({"date": dates, "role": roles, f"{output}_observed": observed, f"{output}_mask": mask, **columns})
    figure = new_figure(8, 3)
    axis = figure.add_subplot()
    _draw_series(axis, fluxes, output)
    date_axis(axis, fluxes)
    legend_below(figure, axis)
    return figure


@styled
def series_figure(fluxes: pd.DataFrame, output: str, site: str) -> Figure:
    """Draw one flux day by day with its observations, and its sum over the observed days.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.
        site: Name of the site.
    """
    figure = new_figure(10, 6)
    series, total = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    series.set_title(f"{site}: daily {flux_name(output)}", parse_math=False)
    _draw_series(series, fluxes, output)
    total.set_title(f"Sum of {flux_name(output)} over the observed days")
    _draw_total(total, fluxes, output)
    date_axis(total, fluxes)
    legend_below(figure, series, total)
    return figure


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
        _draw_residuals(axis, fluxes, output, name)
        axis.set_ylabel(UNIT)
    date_axis(axes[-1], fluxes)
    legend_below(figure, axes[0])
    return figure


@styled
def one_to_one_figure(fluxes: pd.DataFrame, output: str) -> Figure:
    """Draw simulated against observed, before and after, with scores of each role.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.
    """
    figure = new_figure(9, 5)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    drawn = fluxes.loc[fluxes[f"{output}_mask"], [f"{output}_{name}" for name in ("observed", "prior", "optimum")]].to_numpy()
    ends = drawn.min() - 0.05 * np.ptp(drawn), drawn.max() + 0.05 * np.ptp(drawn)
    for axis, name in zip(axes, ("prior", "optimum"), strict=True):
        axis.set_title(name.capitalize())
        for role, days in _observed_days(fluxes, output):
            simulated, observed = days[f"{output}_{name}"], days[f"{output}_observed"]
            found = scores(simulated, observed, np.ones(len(days), dtype=bool))
            label = f"{role}: n {found['n']}, RMSE {found['rmse']:.2f}, r {found['r']:.2f}"
            axis.plot(observed, simulated, alpha=0.75, label=label, **_markers(role, len(days)))
        axis.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
        axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"observed {_flux_label(output)}")
        axis.legend(loc="upper left", fontsize=8, handletextpad=0.1)
    axes[0].set_ylabel(f"simulated {_flux_label(output)}")
    return figure


@styled
def fluxes_figure(fluxes: pd.DataFrame, outputs: Sequence[str]) -> Figure:
    """Draw the other fluxes before and after; those without observations are only constrained through the target.

    Args:
        fluxes: Content of fluxes.csv.
        outputs: Names of the fluxes.
    """
    figure = new_figure(10, 0.6 + 2.1 * len(outputs))
    axes = figure.subplots(len(outputs), 1, sharex=True, squeeze=False)[:, 0]
    for axis, output in zip(axes, outputs, strict=True):
        is_observed = bool(fluxes[f"{output}_mask"].any())
        axis.set_title(flux_name(output) if is_observed else f"{flux_name(output)}, not observed")
        _draw_runs(axis, fluxes, output)
        for role, days in _observed_days(fluxes, output):
            axis.plot(days["date"], days[f"{output}_observed"], **_markers(role, len(fluxes)))
        axis.set_ylabel(UNIT)
    date_axis(axes[-1], fluxes)
    legend_below(figure, axes[0])
    return figure


def _draw_series(axis: Axes, fluxes: pd.DataFrame, output: str) -> None:
    _shade_roles(axis, fluxes)
    axis.axhline(0, color=GREY, linewidth=0.8)
    _draw_runs(axis, fluxes, output)
    for role, days in _observed_days(fluxes, output):
        observed = days[f"{output}_observed"]
        if f"{output}_sigma" in days:
            axis.errorbar(days["date"], observed, days[f"{output}_sigma"], fmt="none", ecolor="#AAAAAA", elinewidth=0.7)
        axis.plot(days["date"], observed, label=f"observed, {role} days", **_markers(role, len(fluxes)))
    axis.set_ylabel(_flux_label(output))


def _draw_runs(axis: Axes, fluxes: pd.DataFrame, output: str) -> None:
    for name, style in _RUN_STYLE.items():
        if f"{output}_{name}" in fluxes:
            axis.plot(fluxes["date"], fluxes[f"{output}_{name}"], **style)


def _draw_total(axis: Axes, fluxes: pd.DataFrame, output: str) -> None:
    axis.axhline(0, color=GREY, linewidth=0.8)
    observed = {"color": "#555555", "linewidth": 2.2, "linestyle": ":", "label": "observed, summed"}
    for name, style in {"observed": observed, **_RUN_STYLE}.items():
        if f"{output}_{name}" in fluxes:
            total = fluxes[f"{output}_{name}"].where(fluxes[f"{output}_mask"], 0).cumsum()
            axis.plot(fluxes["date"], total, **style)
    axis.set_ylabel("gC m$^{-2}$")


def _draw_residuals(axis: Axes, fluxes: pd.DataFrame, output: str, name: str) -> None:
    for role, days in _observed_days(fluxes, output):
        residual = days[f"{output}_{name}"] - days[f"{output}_observed"]
        axis.plot(days["date"], residual, label=f"{role} days", **_markers(role, len(fluxes)))
    residual = (fluxes[f"{output}_{name}"] - fluxes[f"{output}_observed"]).where(fluxes[f"{output}_mask"])
    monthly = residual.groupby(fluxes["date"].to_numpy().astype("datetime64[M]")).mean()
    middle = monthly.index.to_numpy() + np.timedelta64(14, "D")
    axis.plot(middle, monthly, color=BLACK, linewidth=1.2, label="monthly mean")


def _shade_roles(axis: Axes, fluxes: pd.DataFrame) -> None:
    """Shade the spans of `select` and `test`; days in between without an observation belong to the span around them."""
    seen = fluxes.loc[fluxes["role"] != "unused", ["date", "role"]]
    span = (seen["role"] != seen["role"].shift()).cumsum()
    for _, days in seen.groupby(span):
        role = days["role"].iloc[0]
        if role in _ROLE_SHADE:
            first, last = days["date"].iloc[0], days["date"].iloc[-1]
            axis.axvspan(first, last, color=_ROLE_SHADE[role], alpha=0.15, linewidth=0, zorder=0)


def _observed_days(fluxes: pd.DataFrame, output: str) -> Iterator[tuple[str, pd.DataFrame]]:
    for role in _ROLE_STYLE:
        days = fluxes[(fluxes["role"] == role) & fluxes[f"{output}_mask"].astype(bool)]
        if len(days):
            yield role, days


def _markers(role: str, count: int) -> dict[str, Any]:
    """Return the markers of a role, smaller where there are many."""
    return {**_ROLE_STYLE[role], "linestyle": "", "markersize": 3.2 if count < 500 else 1.8, "markeredgewidth": 0.7}


def flux_name(output: str) -> str:
    """Return a flux as people write it.

    Example:
        >>> flux_name("nep"), flux_name("rh")
        ('NEP', 'Rh')
    """
    return "Rh" if output == "rh" else output.upper()


def _flux_label(output: str) -> str:
    sign = "\n(positive: sink)" if output == "nep" else ""
    return f"{flux_name(output)} [{UNIT}]{sign}"
