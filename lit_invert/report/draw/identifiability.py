"""What the data determined: correlations, directions, profiles, and rankings of the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, legend_below, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Rise of -2 log density at which a profile's 50, 90 and 95 % intervals end: quantiles of chi squared with one degree of freedom.
LEVELS = {50: 0.4549364, 90: 2.7055435, 95: 3.8414588}
_RANKED = 12


@styled
def correlation_figure(correlation: pd.DataFrame) -> Figure:
    """Draw the posterior correlation, parameters that move together side by side.

    Args:
        correlation: Content of posterior_correlation.csv, rows and columns by name.
    """
    names = [name for name in correlation.index if np.isfinite(correlation.loc[name, name])]
    values = correlation.loc[names, names].to_numpy()
    order = chain(np.abs(values))
    figure = new_figure(2.4 + 0.19 * len(names), 1.7 + 0.19 * len(names))
    axis = figure.add_subplot()
    image = axis.imshow(values[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    labels = [names[i] for i in order]
    axis.set_xticks(range(len(names)), labels, rotation=90, fontsize=7, parse_math=False)
    axis.set_yticks(range(len(names)), labels, fontsize=7, parse_math=False)
    axis.set_title("Posterior correlation (scaled space)")
    axis.grid(False)
    figure.colorbar(image, ax=axis, shrink=0.6, label="correlation")
    return figure


def chain(strength: NDArray[np.float64]) -> list[int]:
    """Order rows so that strong pairs stand side by side: from the strongest pair on, always the one closest to the last.

    Args:
        strength: A symmetric (P, P)-dim array.

    Returns:
        The places in order.

    Example:
        >>> chain(np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]]))
        [0, 2, 1]
    """
    rest = strength - np.diag(np.diag(strength))
    order = [int(np.argmax(rest.max(1)))]
    while len(order) < len(rest):
        left = [i for i in range(len(rest)) if i not in order]
        order.append(left[int(np.argmax(rest[order[-1], left]))])
    return order


@styled
def spectrum_figure(eigenvalues: Sequence[float], rank: int) -> Figure:
    """Draw how many times more each direction of the parameters is held by the data than by the prior.

    Args:
        eigenvalues: `eigenvalues` of uncertainty.json, the largest first.
        rank: How many of them the data determine.
    """
    values = np.array(eigenvalues, dtype=np.float64)
    figure = new_figure(8, 3.2)
    axis = figure.add_subplot()
    place = np.arange(1, len(values) + 1)
    floor = max(values.max(initial=0) * 1e-12, 1e-6)
    for chosen, color, label in ((place <= rank, BLUE, "by the data"), (place > rank, "#BBBBBB", "by the prior")):
        if chosen.any():
            axis.bar(place[chosen], np.maximum(values[chosen], floor), color=color, label=f"direction held {label}")
    axis.axhline(1, color=GREY, linewidth=0.8, linestyle="--", label="as much as the prior")
    axis.axvline(rank + 0.5, color=VERMILLION, linewidth=1.2, label=f"practical rank {rank}")
    axis.set_yscale("log")
    axis.set(xlabel="direction", ylabel="data over prior", title="Directions of the parameters, by what the data say of them")
    legend_below(figure, axis)
    return figure


@styled
def profiles_figure(profiles: pd.DataFrame, parameters: pd.DataFrame) -> Figure:
    """Draw the profile of each parameter that has one: the best rise of -2 log density at each of its values.

    Args:
        profiles: Content of profiles.csv.
        parameters: Content of parameters.csv.
    """
    table = parameters.set_index("name")
    names = list(dict.fromkeys(profiles["parameter"]))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(2.5 * columns + 0.4, 2.2 * rows + 0.5)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        profile = profiles[profiles["parameter"] == name].sort_values("value")
        for level, rise in LEVELS.items():
            axis.axhline(rise, color=GREY, linewidth=0.7, linestyle=":")
            axis.annotate(f"{level} %", (0.99, rise), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=6.5)
        own = profile["rise"] - profile["rise"].min()
        axis.plot(profile["value"], own, color=BLUE, marker=".", markersize=3.5, label="profile")
        axis.axvline(table.loc[name, "optimum"], color=BLUE, linewidth=0.8, linestyle="--", label="optimum")
        axis.axvline(table.loc[name, "prior"], color=ORANGE, linewidth=1.2, label="prior")
        axis.set_xlabel(f"{name} [{table.loc[name, 'unit']}]", parse_math=False, fontsize=8)
        axis.set_ylim(0, 8)
        if table.loc[name, "scale"] == "log":
            axis.set_xscale("log")
    for axis in axes[len(names) :]:
        axis.remove()
    axes[0].set_ylabel("rise of $-2\\log p$")
    legend_below(figure, axes[0])
    return figure


@styled
def ranking_figure(sensitivity: pd.DataFrame | None, posterior: pd.DataFrame | None) -> Figure:
    """Draw which parameters matter most, by every measure there is.

    Args:
        sensitivity: Content of sensitivity.csv, if there is one.
        posterior: Content of posterior.csv, if there is one.
    """
    panels = [*_posterior_panel(posterior), *_sensitivity_panels(sensitivity)]
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(max(2.6 * columns, 5) + 0.2, 2.9 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (title, label, values, error, color) in zip(axes, panels, strict=False):
        _draw_ranking(axis, values, error, color)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(label, fontsize=8)
    for axis in axes[len(panels) :]:
        axis.remove()
    return figure


_Panel = tuple[str, str, pd.Series, pd.Series | None, str]


def _posterior_panel(posterior: pd.DataFrame | None) -> list[_Panel]:
    if posterior is None:
        return []
    shrink = posterior.set_index("name")["sd_reduction_percent"].dropna()
    return [("Told by these data", "sd less than the prior's [%]", shrink, None, GREEN)]


def _sensitivity_panels(sensitivity: pd.DataFrame | None) -> list[_Panel]:
    panels: list[_Panel] = []
    if sensitivity is None:
        return panels
    for (method, output), rows in sensitivity.groupby(["method", "output"]):
        column, label, color = {
            "morris": ("mu_star", "mean absolute effect \N{GREEK SMALL LETTER MU}*", BLUE),
            "sobol": ("st", "total Sobol index", PURPLE),
        }.get(str(method), ("st", str(method), GREY))
        table = rows.set_index("parameter")
        panels.append((f"{str(method).capitalize()}: {output}", label, table[column], table.get(f"{column}_conf"), color))
    return panels


def _draw_ranking(axis: Axes, values: pd.Series, error: pd.Series | None, color: str) -> None:
    top = values.sort_values(ascending=False, kind="stable").head(_RANKED)
    spread = None if error is None else error.loc[top.index].fillna(0).to_numpy()
    axis.barh(np.arange(len(top)), top.to_numpy(), xerr=spread, color=color, height=0.7, error_kw={"elinewidth": 0.8})
    axis.set_yticks(range(len(top)), list(top.index), fontsize=7, parse_math=False)
    axis.invert_yaxis()
