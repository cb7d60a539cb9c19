"""One flux day by day, month by month, and summed up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..style import GREY, date_axis, flux_label, flux_name, legend_below, new_figure, note_sign, styled
from .fluxes import draw_bands, draw_runs, markers, observed_days, runs_of, shade_roles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Fewest observed days of a month whose mean is shown.
_LEAST_DAYS = 5


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
    _draw_series(axis, fluxes, output, None)
    date_axis(axis, fluxes)
    legend_below(figure, axis)
    return figure


@styled
def series_figure(fluxes: pd.DataFrame, output: str, site: str, bands: pd.DataFrame | None = None) -> Figure:
    """Draw one flux day by day with its observations, its monthly means, and its sum over the observed days.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.
        site: Name of the site.
        bands: Content of bands.csv, if there is one.
    """
    figure = new_figure(10, 8)
    series, monthly, total = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 1.3, 1])
    series.set_title(f"{site}: daily {flux_name(output)}", parse_math=False)
    note_sign(series, output)
    _draw_series(series, fluxes, output, bands)
    monthly.set_title(f"Monthly means over the observed days (at least {_LEAST_DAYS})")
    _draw_months(monthly, fluxes, output, bands)
    total.set_title(f"Sum of {flux_name(output)} over the observed days")
    _draw_total(total, fluxes, output)
    date_axis(total, fluxes)
    legend_below(figure, series, monthly, total)
    return figure


def _draw_series(axis: Axes, fluxes: pd.DataFrame, output: str, bands: pd.DataFrame | None) -> None:
    shade_roles(axis, fluxes)
    axis.axhline(0, color=GREY, linewidth=0.8)
    draw_bands(axis, bands, output)
    draw_runs(axis, fluxes, output)
    for role, days in observed_days(fluxes, output):
        observed = days[f"{output}_observed"]
        if f"{output}_sigma" in days:
            axis.errorbar(days["date"], observed, days[f"{output}_sigma"], fmt="none", ecolor="#AAAAAA", elinewidth=0.7)
        axis.plot(days["date"], observed, label=f"observed, {role} days", **markers(role, len(fluxes)))
    axis.set_ylabel(flux_label(output))


def _draw_months(axis: Axes, fluxes: pd.DataFrame, output: str, bands: pd.DataFrame | None) -> None:
    """Draw means by month over the observed days; the band's are means of its sides, as if the days of a month erred together."""
    axis.axhline(0, color=GREY, linewidth=0.8)
    columns = {name: fluxes[f"{output}_{name}"] for name in ("observed", *runs_of(fluxes, output))}
    if bands is not None and f"{output}_p05" in bands:
        columns |= {side: bands[f"{output}_{side}"] for side in ("p05", "p95")}
    observed = pd.DataFrame(columns)[fluxes[f"{output}_mask"].astype(bool).to_numpy()]
    groups = observed.groupby(fluxes.loc[observed.index, "date"].to_numpy().astype("datetime64[M]"))
    means = groups.mean()[groups.size() >= _LEAST_DAYS]
    # A month without a mean breaks the lines, so that a gap shows.
    means = means.reindex(pd.date_range(means.index.min(), means.index.max(), freq="MS")) if len(means) else means
    middle = means.index.to_numpy() + np.timedelta64(14, "D")
    if "p05" in means:
        axis.fill_between(middle, means["p05"], means["p95"], color="#0072B2", alpha=0.42, linewidth=0)
    for name, style in runs_of(fluxes, output).items():
        axis.plot(middle, means[name], **{**style, "marker": ".", "markersize": 4})
    axis.plot(middle, means["observed"], marker="o", markersize=4.5, label="observed, monthly mean", color="#555555", linestyle="")
    axis.set_ylabel(flux_label(output))


def _draw_total(axis: Axes, fluxes: pd.DataFrame, output: str) -> None:
    axis.axhline(0, color=GREY, linewidth=0.8)
    observed = {"color": "#555555", "linewidth": 2.2, "linestyle": ":", "label": "observed, summed"}
    for name, style in {"observed": observed, **runs_of(fluxes, output)}.items():
        total = fluxes[f"{output}_{name}"].where(fluxes[f"{output}_mask"], 0).cumsum()
        axis.plot(fluxes["date"], total, **style)
    axis.set_ylabel("gC m$^{-2}$")
