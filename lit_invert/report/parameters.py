"""Figures of the inversion itself: parameters within their bounds, and the loss by term."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, UNIT, VERMILLION, legend_below, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def parameters_figure(parameters: pd.DataFrame) -> Figure:
    """Draw every parameter within its bounds: prior with its standard deviation, and optimum.

    Args:
        parameters: Content of parameters.csv.
    """
    figure = new_figure(9, 1.2 + 0.24 * len(parameters))
    axis = figure.add_subplot()
    rows = np.arange(len(parameters))
    low, high = _drawn_range(parameters)
    place = functools.partial(_place, low=low, high=high, is_log=(parameters["scale"] == "log").to_numpy())
    prior, optimum = place(parameters["prior"]), place(parameters["optimum"])
    around = [place(_beside_prior(parameters, sign)).clip(0, 1) for sign in (-1, 1)]
    at_bound = (parameters["at_bound"] != "").to_numpy()
    axis.barh(rows, 1, height=0.62, color="#F0F0F0", edgecolor="#CCCCCC", linewidth=0.5, label="bounds")
    axis.barh(rows, around[1] - around[0], left=around[0], height=0.62, color=ORANGE, alpha=0.3, label="prior $\\pm$ sd")
    axis.plot(prior, rows, linestyle="", marker="|", markersize=9, markeredgewidth=1.6, color="#B37A00", label="prior")
    axis.hlines(rows, prior, optimum, color=BLUE, linewidth=1)
    axis.plot(
        optimum[~at_bound], rows[~at_bound], linestyle="", marker="o", markersize=5, color=BLUE, label="optimum", clip_on=False
    )
    if at_bound.any():
        axis.plot(
            optimum[at_bound],
            rows[at_bound],
            linestyle="",
            marker="X",
            markersize=7,
            color=VERMILLION,
            label="optimum at a bound",
            clip_on=False,
        )
    _label_parameters(axis, parameters, low, high)
    legend_below(figure, axis)
    return figure


def _drawn_range(parameters: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the bars: the bounds, or four standard deviations around the prior where there is none."""
    prior, sd = parameters["prior"].to_numpy(), parameters["prior_sd"].to_numpy()
    optimum = parameters["optimum"].to_numpy()
    low, high = parameters["min"].to_numpy(), parameters["max"].to_numpy()
    low = np.where(np.isfinite(low), low, np.minimum(prior - 4 * sd, optimum))
    return low, np.where(np.isfinite(high), high, np.maximum(prior + 4 * sd, optimum))


def _beside_prior(parameters: pd.DataFrame, sign: int) -> pd.Series:
    """Return the prior plus or minus its standard deviation, which is one of the logarithm where steps are ratios."""
    prior, sd = parameters["prior"], parameters["prior_sd"]
    return (prior + sign * sd).where(parameters["scale"] == "lin", prior * np.exp(sign * sd / prior))


def _place(
    values: pd.Series, low: NDArray[np.float64], high: NDArray[np.float64], is_log: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return where values lie between the ends of their bars, 0 to 1, in the parameter's own scale."""
    in_line = is_log & (low > 0)

    def to_line(x: NDArray[np.float64]) -> NDArray[np.float64]:
        positive = np.where(in_line, np.maximum(x, np.abs(low) * 1e-9), 1.0)
        return np.where(in_line, np.log(positive), x)

    width = to_line(high) - to_line(low)
    return (to_line(values.to_numpy()) - to_line(low)) / np.where(width > 0, width, 1.0)


def _label_parameters(axis: Axes, parameters: pd.DataFrame, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Write name and ends of each bar beside it, and what the parameter was and became."""
    for row, parameter in enumerate(parameters.to_dict("records")):
        values = f"{parameter['prior']:.3g} \u2192 {parameter['optimum']:.3g} {parameter['unit'].strip('-')}"
        for x, align, text, size in (
            (-0.015, "right", f"{low[row]:.3g}", 7),
            (1.015, "left", f"{high[row]:.3g}", 7),
            (1.1, "left", values, 8),
        ):
            axis.annotate(
                text,
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


@styled
def loss_figure(history: pd.DataFrame, best_iteration: int) -> Figure:
    """Draw the weighted terms, which sum to the total, and the RMSE on the `select` days against the iteration.

    Args:
        history: Content of history.csv.
        best_iteration: Iteration that was kept.
    """
    selected = history["select/rmse"].dropna() if "select/rmse" in history else pd.Series(dtype=float)
    figure = new_figure(8, 5 if len(selected) else 3.4)
    axes = figure.subplots(2 if len(selected) else 1, 1, sharex=True, squeeze=False)[:, 0]
    axes[0].set_title("Loss, weighted terms")
    axes[0].plot(history["iteration"], history["loss/total"], color=BLACK, linewidth=2, label="total")
    terms = [column for column in map(str, history) if column.startswith("weighted/")]
    for number, column in enumerate(terms):
        color = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY)[number % 6]
        dashes = ("-", "--", ":", "-.")[number % 4]
        axes[0].plot(history["iteration"], history[column], color=color, linestyle=dashes, label=column.removeprefix("weighted/"))
    if (history["loss/total"] > 0).all():
        axes[0].set_yscale("log")
        axes[0].set_ylim(bottom=1e-3 * history["loss/total"].max())
    axes[0].set_ylabel("loss [(gC m$^{-2}$ d$^{-1}$)$^2$]")
    if len(selected):
        axes[1].set_title("RMSE on the select days")
        after = history["iteration"][selected.index] + 1  # a score belongs to where its iteration has led, a loss to its start
        axes[1].plot(after, selected, color=BLUE, marker="s", markerfacecolor="white", markersize=4)
        axes[1].set_ylabel(UNIT)
    for axis in axes:
        axis.axvline(best_iteration, color=GREY, linestyle=":", linewidth=1.2, label="best iterate")
    axes[-1].set_xlabel("iteration")
    legend_below(figure, axes[0])
    return figure
