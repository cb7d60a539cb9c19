"""Many starts: where they ended, what they agree on, and whether more would have helped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..ranges import Ranges
from ..style import BLUE, GREY, PALETTE, UNIT, legend_below, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRAY = "#BBBBBB"


@styled
def starts_figure(starts: pd.DataFrame, r_t: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Draw the losses of all starts in order, and the best `select` error against the number of starts.

    Args:
        starts: Content of starts.csv.
        r_t: `starts.r_t` of metrics.json.
    """
    figure = new_figure(10 if r_t else 6.5, 3.8)
    axes = figure.subplots(1, 2 if r_t else 1, squeeze=False)[0]
    _draw_waterfall(axes[0], starts)
    if r_t:
        _draw_curve(axes[1], r_t)
    legend_below(figure, *axes)
    return figure


def cluster_color(cluster: float, clusters: Sequence[float]) -> str:
    """Return the colour of a cluster: those of more than one start have one of their own."""
    return PALETTE[clusters.index(cluster) % len(PALETTE)] if cluster in clusters else _STRAY


def clusters_of(starts: pd.DataFrame) -> list[float]:
    """Return the clusters that hold more than one start, the best first."""
    sizes = starts.loc[starts["cluster"] >= 0, "cluster"].value_counts()
    return sorted(sizes[sizes > 1].index)


def _draw_waterfall(axis: Axes, starts: pd.DataFrame) -> None:
    ended = starts[starts["loss"].notna()].sort_values("loss", kind="stable").reset_index(drop=True)
    clusters = clusters_of(ended)
    axis.plot(ended.index + 1, ended["loss"], color="#DDDDDD", linewidth=1, zorder=1)
    for cluster in [*clusters, None]:
        rows = ended[~ended["cluster"].isin(clusters)] if cluster is None else ended[ended["cluster"] == cluster]
        label = "on its own" if cluster is None else f"cluster {cluster + 1:.0f}: {len(rows)} starts"
        for status, marker in (("finished", "o"), ("dropped", "v")):
            part = rows[rows["status"] == status]
            if len(part):
                color = _STRAY if cluster is None else cluster_color(cluster, clusters)
                text = label if status == "finished" else "dropped on the way"
                axis.plot(part.index + 1, part["loss"], linestyle="", marker=marker, markersize=5, color=color, label=text)
    failed = int((starts["status"] == "failed").sum())
    axis.set_title(f"Waterfall of {len(starts)} starts" + (f", {failed} failed" if failed else ""))
    axis.set(xlabel="start, by its loss", ylabel="loss at the end")
    if len(ended) and (ended["loss"] > 0).all() and ended["loss"].max() > 20 * ended["loss"].min():
        axis.set_yscale("log")
    elif len(ended):
        _keep_apart(axis, float(ended["loss"].min()))


def _keep_apart(axis: Axes, value: float) -> None:
    """Let the axis span a hundredth of a value at least, so that equal ends look equal."""
    low, high = axis.get_ylim()
    room = max(0.0, 0.01 * abs(value) - (high - low)) / 2
    axis.set_ylim(low - room, high + room)


def _draw_curve(axis: Axes, r_t: Sequence[Mapping[str, Any]]) -> None:
    table = pd.DataFrame(list(r_t))
    axis.fill_between(table["starts"], table["low"], table["high"], color=BLUE, alpha=0.25, linewidth=0, label="25-75 %")
    axis.plot(table["starts"], table["select"], color=BLUE, marker="o", markersize=4, label="best of so many starts")
    last = table.iloc[-1]
    axis.annotate(
        f"{last['seconds']:.3g} s", (last["starts"], last["select"]), xytext=(0, 8), textcoords="offset points", ha="right"
    )
    _keep_apart(axis, float(last["select"]))
    axis.set_title("Are there enough starts?")
    axis.set(xlabel="starts", ylabel=f"RMSE on the select days [{UNIT}]")


@styled
def parallel_figure(starts: pd.DataFrame, parameters: pd.DataFrame) -> Figure:
    """Draw where every start ended between the bounds of each free parameter, those that starts disagree on first.

    Args:
        starts: Content of starts.csv.
        parameters: Content of parameters.csv.
    """
    free = parameters[~parameters["fixed"].astype(bool)].reset_index(drop=True)
    ranges = Ranges(free)
    ended = starts[starts["status"] == "finished"].sort_values("loss", ascending=False, kind="stable")
    places = ranges.place(ended[list(free["name"])].to_numpy())
    order = np.argsort(-places.std(0), kind="stable") if len(places) else np.arange(len(free))
    figure = new_figure(10, 4)
    axis = figure.add_subplot()
    clusters, seen = clusters_of(ended), set()
    for place, cluster in zip(places[:, order], ended["cluster"], strict=True):
        label = f"cluster {cluster + 1:.0f}" if cluster in clusters else "on its own"
        axis.plot(
            range(len(free)), place, color=cluster_color(cluster, clusters), linewidth=0.9, alpha=0.8,
            label=None if label in seen else label,
        )  # fmt: skip
        seen.add(label)
    axis.plot(range(len(free)), ranges.prior[order], linestyle="", marker="_", markersize=9, color=GREY, label="prior")
    axis.set_xticks(range(len(free)), [free["name"][i] for i in order], rotation=90, fontsize=7.5, parse_math=False)
    axis.set(xlim=(-0.5, len(free) - 0.5), ylim=(-0.02, 1.02), ylabel="place between the bounds", title="Where the starts ended")
    legend_below(figure, axis)
    return figure
