"""The fit itself, iteration by iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ..style import BLACK, BLUE, GREY, PALETTE, UNIT, VERMILLION, legend_below, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Further columns of the history that are drawn where one of them varies: title, columns by label, and whether their axis is
#: logarithmic.
_OTHERS = (
    ("Norm of the gradient", {"gradient_norm": ""}, True),
    ("Learning rate", {"lr": ""}, True),
    ("Share of parameters that the step had to clip", {"clipped_share": ""}, False),
    ("Parameters at a bound", {"at_lower": "lower", "at_upper": "upper"}, False),
)


@styled
def loss_figure(history: pd.DataFrame, best_iteration: int) -> Figure:
    """Draw the weighted terms, which sum to the total, the RMSE on the `select` days, and how the steps went.

    Args:
        history: Content of history.csv.
        best_iteration: Iteration that was kept.
    """
    selected = history["select/rmse"].dropna() if "select/rmse" in history else pd.Series(dtype=float)
    others = [other for other in _OTHERS if any(name in history and history[name].nunique() > 1 for name in other[1])]
    rows = 1 + bool(len(selected)) + len(others)
    figure = new_figure(8, 2.6 + 1.5 * (rows - 1))
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[1.8] + [1] * (rows - 1))[:, 0]
    _draw_terms(axes[0], history)
    if len(selected):
        axes[1].set_title("RMSE on the select days")
        after = history["iteration"][selected.index] + 1  # a score belongs to where its iteration has led, a loss to its start
        axes[1].plot(after, selected, color=BLUE, marker="s", markerfacecolor="white", markersize=4)
        axes[1].set_ylabel(UNIT)
    for axis, (title, columns, is_log) in zip(axes[rows - len(others) :], others, strict=True):
        axis.set_title(title)
        _draw_columns(axis, history, columns)
        if is_log and all((history[name].dropna() > 0).all() for name in columns):
            axis.set_yscale("log")
    for axis in axes:
        axis.axvline(best_iteration, color=GREY, linestyle=":", linewidth=1.2, label="best iterate")
    axes[-1].set_xlabel("iteration")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, axes[0])
    return figure


def _draw_columns(axis: Axes, history: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """Draw columns of the history that are there; several, which are counts, are told apart by a label."""
    from matplotlib.ticker import MaxNLocator

    for (name, label), (color, marker) in zip(columns.items(), (("#555555", "."), (VERMILLION, "x")), strict=False):
        if name in history:
            axis.plot(history["iteration"], history[name], color=color, marker=marker, markersize=3, label=label or None)
    if len(columns) > 1:
        axis.legend(fontsize=7, loc="best")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_terms(axis: Axes, history: pd.DataFrame) -> None:
    axis.set_title("Loss, weighted terms")
    axis.plot(history["iteration"], history["loss/total"], color=BLACK, linewidth=2, label="total")
    terms = [column for column in map(str, history) if column.startswith("weighted/")]
    for number, column in enumerate(terms):
        color, dashes = PALETTE[number % len(PALETTE)], ("-", "--", ":", "-.")[number % 4]
        axis.plot(history["iteration"], history[column], color=color, linestyle=dashes, label=column.removeprefix("weighted/"))
    if (history["loss/total"] > 0).all():
        axis.set_yscale("log")
        axis.set_ylim(bottom=1e-3 * history["loss/total"].max())
    axis.set_ylabel("loss [(gC m$^{-2}$ d$^{-1}$)$^2$]")
