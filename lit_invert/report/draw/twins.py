"""What twin experiments found: estimates against truths, ranks of the truths, and how often intervals hold them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..style import BLACK, BLUE, GREY, ORANGE, VERMILLION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 6
#: Colour of a parameter's points, by the first word of its verdict.
_COLOURS = {"recoverable": BLUE, "biased": VERMILLION, "not": GREY}


@styled
def truth_figure(table: pd.DataFrame, cases: pd.DataFrame) -> Figure:
    """Draw the estimate of each twin against its truth, a panel a parameter.

    Args:
        table: The certificate's parameters, with `name`, `unit` and `verdict`.
        cases: A row a twin and parameter: `name`, `truth`, `mean`, `p05`, `p95`.
    """
    rows = math.ceil(len(table) / _COLUMNS)
    figure = new_figure(2.0 * _COLUMNS, 1.8 * rows + 0.4)
    for place, (name, unit, verdict) in enumerate(table[["name", "unit", "verdict"]].astype(str).to_numpy().tolist()):
        axis = figure.add_subplot(rows, _COLUMNS, place + 1)
        own = cases[cases["name"] == name]
        colour = _COLOURS[verdict.split()[0]]
        spread = [own["mean"] - own["p05"], own["p95"] - own["mean"]]
        axis.errorbar(own["truth"], own["mean"], np.clip(spread, 0, None), fmt="o", ms=2, lw=0.4, color=colour)
        ends = [own["truth"].min(), own["truth"].max()]
        axis.plot(ends, ends, color=BLACK, lw=0.8)
        axis.set_title(f"{name} [{unit}]" if unit not in ("", "-", "nan") else name, fontsize=7)
        axis.tick_params(labelsize=6)
        axis.locator_params(axis="x", nbins=4)
    figure.supxlabel("truth", fontsize=9)
    figure.supylabel("posterior mean, 5-95 %", fontsize=9)
    figure.suptitle("blue: recoverable; red: biased or over-confident; grey: not identifiable", fontsize=9)
    return figure


@styled
def calibration_figure(ranks: pd.DataFrame, tests: pd.DataFrame, coverage: pd.DataFrame, draws: int) -> Figure:
    """Draw the distribution of all ranks against the uniform one, and coverage against the level of the interval.

    Args:
        ranks: A row a twin, a column a parameter or flux.
        tests: With `name` and `p_corrected`; those that fail are drawn in colour.
        coverage: With `level`, `all` and `determined`.
        draws: Number of draws among which truths were ranked.
    """
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    _draw_ranks(left, ranks, set(tests.loc[tests["p_corrected"] < 0.05, "name"]), draws)
    right.plot([0, 1], [0, 1], color=BLACK, lw=0.8)
    for column, colour, marker in (("all", GREY, "s"), ("determined", BLUE, "o")):
        right.plot(coverage["level"], coverage[column], color=colour, marker=marker, ms=4, label=f"{column} parameters")
    right.set(
        xlabel="level of the central interval [-]", ylabel="share of truths inside [-]", title="coverage", xlim=(0, 1), ylim=(0, 1)
    )
    right.legend(loc="upper left")
    return figure


def _draw_ranks(axis: Axes, ranks: pd.DataFrame, uneven: set[str], draws: int) -> None:
    """Draw how far the cumulative share of each one's ranks lies from uniform, with the band that holds a uniform one in 95 %.

    The band is that of Dvoretzky, Kiefer and Wolfowitz, which holds at all ranks at once.
    """
    band = math.sqrt(math.log(2 / 0.05) / (2 * len(ranks)))
    axis.axhspan(-band, band, color=GREY, alpha=0.25, lw=0, label="95 % of uniform ranks")
    places = (np.arange(draws + 1) + 1) / (draws + 1)
    for name in ranks:
        below = np.searchsorted(np.sort(ranks[name]), np.arange(draws + 1), side="right") / len(ranks)
        failed = name in uneven
        label = str(name) if failed else None
        axis.plot(places, below - places, color=VERMILLION if failed else ORANGE, lw=1.2 if failed else 0.5, label=label)
    axis.set(xlabel="rank of the truth among draws [-]", ylabel="cumulative share minus rank [-]", title="ranks", xlim=(0, 1))
    axis.legend(loc="lower left", fontsize=7, ncols=2)
