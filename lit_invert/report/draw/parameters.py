"""Parameters within their bounds: prior and optimum, and prior and posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..ranges import Ranges
from ..style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, legend_below, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Classes of identifiability in the order in which they are shown.
CLASSES = {"determined": GREEN, "traded off": BLUE, "at bound": VERMILLION, "prior only": GREY, "fixed": PURPLE}
#: Where densities are drawn, and their least width, in shares of the range.
_GRID = np.linspace(0, 1, 161)
_NARROWEST = 0.006


@styled
def parameters_figure(parameters: pd.DataFrame) -> Figure:
    """Draw every parameter within its bounds: prior with its standard deviation, and optimum.

    Args:
        parameters: Content of parameters.csv.
    """
    figure = new_figure(9, 1.2 + 0.24 * len(parameters))
    axis = figure.add_subplot()
    rows, ranges = np.arange(len(parameters)), Ranges(parameters)
    optimum = ranges.place(parameters["optimum"])
    low, high = (side.clip(0, 1) for side in ranges.beside_prior)
    axis.barh(rows, 1, height=0.62, color="#F0F0F0", edgecolor="#CCCCCC", linewidth=0.5, label="bounds")
    axis.barh(rows, high - low, left=low, height=0.62, color=ORANGE, alpha=0.3, label="prior $\\pm$ sd")
    axis.plot(ranges.prior, rows, linestyle="", marker="|", markersize=9, markeredgewidth=1.6, color="#B37A00", label="prior")
    axis.hlines(rows, ranges.prior, optimum, color=BLUE, linewidth=1)
    at_bound = (parameters["at_bound"] != "").to_numpy()
    for chosen, marker, size, color, label in (
        (~at_bound, "o", 5, BLUE, "optimum"),
        (at_bound, "X", 7, VERMILLION, "optimum at a bound"),
    ):
        if chosen.any():
            axis.plot(
                optimum[chosen], rows[chosen], linestyle="", marker=marker, markersize=size, color=color, label=label, clip_on=False
            )
    texts = [f"{row['prior']:.3g} \u2192 {row['optimum']:.3g} {row['unit'].strip('-')}" for row in parameters.to_dict("records")]
    _label_rows(axis, parameters, ranges, texts)
    legend_below(figure, axis)
    return figure


@styled
def posterior_figure(parameters: pd.DataFrame, posterior: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Draw prior below and posterior above the line of each free parameter, each to the same height, grouped by class.

    Marks are the posterior's mode and the optimum of the fit, which need not be the same: they may weigh the prior differently.

    Args:
        parameters: Content of parameters.csv.
        posterior: Content of posterior.csv.
        samples: Content of posterior_samples.csv.
    """
    order = _by_class(posterior)
    shown, posterior = parameters.iloc[order].reset_index(drop=True), posterior.iloc[order].reset_index(drop=True)
    ranges = Ranges(shown)
    draws = ranges.place(samples[list(shown["name"])].to_numpy())
    figure = new_figure(9, 1.3 + 0.3 * len(shown))
    axis = figure.add_subplot()
    for row, kind in enumerate(posterior["class"]):
        color = CLASSES.get(kind, BLACK)
        prior = _normal(ranges.prior[row], ranges.prior_sd[row])
        after = _density(draws[:, row])
        axis.fill_between(_GRID, row, row + 0.44 * prior, color=ORANGE, alpha=0.55, linewidth=0)
        axis.fill_between(_GRID, row, row - 0.44 * after, color=color, alpha=0.8, linewidth=0)
    axis.plot(
        ranges.place(posterior["mode"]), np.arange(len(shown)), linestyle="", marker="|", color=BLACK, markersize=8, label="mode"
    )
    optimum = ranges.place(shown["optimum"])
    axis.plot(optimum, np.arange(len(shown)), linestyle="", marker="o", markersize=4, color="none", markeredgecolor=BLACK,
              label="optimum of the fit")  # fmt: skip
    texts = [f"{row['mode']:.3g} [{row['p05']:.3g}, {row['p95']:.3g}]" for row in posterior.to_dict("records")]
    _label_rows(axis, shown, ranges, texts)
    _note_classes(axis, posterior["class"])
    legend_below(figure, axis)
    return figure


def _by_class(posterior: pd.DataFrame) -> NDArray[np.int64]:
    """Return the free rows, by class and then by how much of the prior's variance is left."""
    place = posterior["class"].map({name: i for i, name in enumerate(CLASSES)}).fillna(len(CLASSES))
    order = np.lexsort((posterior["variance_ratio"].to_numpy(), place.to_numpy()))
    return order[(posterior["class"] != "fixed").to_numpy()[order]]


def _note_classes(axis: Axes, classes: pd.Series) -> None:
    """Name the groups in the legend, and part them by lines."""
    axis.fill_between([], [], color=ORANGE, alpha=0.55, label="prior (below the line)")
    for name in dict.fromkeys(classes):
        axis.fill_between([], [], color=CLASSES.get(name, BLACK), alpha=0.8, label=f"posterior: {name}")
    for row in np.flatnonzero(classes.to_numpy()[1:] != classes.to_numpy()[:-1]):
        axis.axhline(row + 0.5, color="#BBBBBB", linewidth=0.8)


def _normal(mean: float, sd: float) -> NDArray[np.float64]:
    """Return the normal cut to the range, on the grid, with a height of one."""
    density = np.exp(-0.5 * np.square((_GRID - mean) / max(sd, _NARROWEST)))
    return np.asarray(density / max(density.max(), 1e-12))


def _density(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the density of draws on the grid, with a height of one, by a Gaussian kernel that the ends of the range reflect.

    Source:
        Silverman (1986), Density Estimation for Statistics and Data Analysis, for the width of the kernel.
    """
    width = max(0.9 * float(np.std(draws)) * len(draws) ** -0.2, _NARROWEST)
    around = np.concatenate([draws, -draws, 2 - draws])
    count, edges = np.histogram(around, np.linspace(-1, 2, 3 * len(_GRID)))
    middle = (edges[1:] + edges[:-1]) / 2
    density = np.exp(-0.5 * np.square((_GRID[:, None] - middle) / width)) @ count
    return np.asarray(density / max(density.max(), 1e-12))


def _label_rows(axis: Axes, parameters: pd.DataFrame, ranges: Ranges, texts: list[str]) -> None:
    """Write name and ends of each bar beside it, and a text behind."""
    for row, text in enumerate(texts):
        for x, align, words, size in (
            (-0.015, "right", f"{ranges.low[row]:.3g}", 7),
            (1.015, "left", f"{ranges.high[row]:.3g}", 7),
            (1.1, "left", text, 8),
        ):
            axis.annotate(
                words,
                (x, row),
                xycoords=("axes fraction", "data"),
                va="center",
                ha=align,
                fontsize=size,
                color=GREY if size == 7 else BLACK,
                annotation_clip=False,
                parse_math=False,
            )
    names = parameters["name"].where(parameters["scale"] == "lin", parameters["name"] + " (log)")
    axis.set_yticks(range(len(parameters)), names, parse_math=False)
    axis.tick_params(axis="y", length=0, pad=40)
    axis.set(xlim=(0, 1), ylim=(len(parameters) - 0.4, -0.6), xticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(False)
