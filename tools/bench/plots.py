"""Figures of races, on logarithmic axes.

    python tools/bench/plots.py course race_365.csv race_3650.csv --out course.png
    python tools/bench/plots.py cost race_*.csv --against days --out cost.png

`course`: how far above the best known loss each method is (median over truths) when a share of Adam's 500 steps has passed, a panel
a race. `cost`: wall time to Adam's loss and to 1 % of the best (medians; infinite ones left out) against the length of the record
or the hidden size.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scores import GOOD

#: Shares of Adam's time at which courses are read.
SHARES = np.geomspace(1e-3, 2.0, 200)
#: Courses end here: differences below are rounding.
LEAST_EXCESS = 1e-4


def main(argv: Sequence[str] | None = None) -> None:
    """Draw one of the two figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=["course", "cost"])
    parser.add_argument("results", nargs="+", type=Path, help="what race.py wrote with --out")
    parser.add_argument("--against", choices=["days", "hidden"], default="days")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    mpl.use("Agg")
    figure = draw_courses(options.results) if options.figure == "course" else draw_cost(options.results, options.against)
    figure.savefig(options.out, dpi=150, bbox_inches="tight")


def draw_courses(results: Sequence[Path]) -> Figure:
    """Draw the distance from the best known loss over time, a panel a race."""
    figure, panels = plt.subplots(1, len(results), figsize=(5 * len(results), 4), sharey=True, squeeze=False)
    for axes, path in zip(panels[0], results, strict=True):
        race, courses = pd.read_csv(path), pd.read_csv(path.with_name(f"{path.stem}_traces.csv"))
        for method, course in courses.groupby("method", sort=False):
            axes.plot(SHARES, np.maximum(median_excess(course), LEAST_EXCESS), label=method)
        axes.axhline(GOOD, color="0.7", linewidth=0.8, zorder=0)
        axes.set(xscale="log", yscale="log", xlabel="time, in 500 plain Adam steps", title=_title(race))
    panels[0][0].set_ylabel("loss above the best known, as a share of it")
    panels[0][-1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False)
    return figure


def median_excess(course: pd.DataFrame) -> NDArray[np.float64]:
    """Return the median over truths of the distance from the best known loss at each of `SHARES`; infinite before the first."""
    at = []
    for _, one in course.groupby("truth"):
        place = np.searchsorted(one["time"].to_numpy(), SHARES, side="right")
        at.append(np.concatenate([[np.inf], one["excess"].to_numpy()])[place])
    return np.asarray(np.quantile(at, 0.5, axis=0, method="higher"))


def draw_cost(results: Sequence[Path], against: str) -> Figure:
    """Draw the CPU time to each of the two losses against a size of the problem."""
    rows = pd.concat(map(pd.read_csv, results))
    sizes = sorted(rows[against].unique())
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axes, target, title in zip(panels, ("adam", "best"), ("to the loss of 500 Adam steps", "to 1 % of the best"), strict=True):
        _draw_cost(axes, rows, against, f"seconds_to_{target}")
        axes.set(xscale="log", yscale="log", xlabel=against, title=title)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    panels[0].set_ylabel("wall time [s]")
    panels[-1].legend(
        *panels[0].get_legend_handles_labels(), fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False
    )
    return figure


def _draw_cost(axes: Axes, rows: pd.DataFrame, against: str, column: str) -> None:
    for method, some in rows.groupby("method", sort=False):
        medians = some.groupby(against)[column].median()
        axes.plot(medians.index, medians.where(np.isfinite(medians)), marker="o", label=method)


def _title(race: pd.DataFrame) -> str:
    first = race.iloc[0]
    return f"{first['days']} days, hidden {first['hidden']}, {race['truth'].nunique()} truths"


if __name__ == "__main__":
    main()
