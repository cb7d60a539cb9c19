"""Figures of a validation, from what stands in validation.json."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lit_invert.report.style import BLUE, GREY, ORANGE, UNIT, VERMILLION, new_figure, styled

from .validator import RETENTION_HIGH, RETENTION_LOW

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Table = Sequence[Mapping[str, Any]]
#: What is drawn of a change that is zero, where the axis is one of logarithms.
_LEAST_SHARE = 1e-7


def draw(validation: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the figures of a validation as PNG, by `check_site`.

    Args:
        validation: Content of validation.json.
    """
    figures = {}
    for verdict in validation["verdicts"]:
        table = verdict["details"].get("table", [])
        if verdict["check"] in FIGURES and table:
            figures[f"{verdict['check']}_{verdict['site']}"] = _png(FIGURES[verdict["check"]][0](table))
    return figures


@styled
def draw_retention(table: Table) -> Figure:
    """Draw what share of the samples each transform leaves in its place, and how near the worst of them came to the tolerance."""
    measured = [row for row in table if row["retained"] is not None][::-1]
    figure = new_figure(8.0, 1.1 + 0.22 * len(measured))
    shares, changes = figure.subplots(1, 2, sharey=True)
    places = range(len(measured))
    colours = [_colour(row) for row in measured]
    shares.barh(places, [row["retained"] for row in measured], color=colours, height=0.7)
    shares.axvspan(RETENTION_LOW, RETENTION_HIGH, color=GREY, alpha=0.35, linewidth=0)
    shares.set_yticks(places, [f"{row['transform']} ({row['what']}, {row['samples']})" for row in measured])
    shares.set(xlim=(0, 1.02), xlabel="share of samples retained [-]", ylim=(-0.6, len(measured) - 0.4))
    worst = [row["worst change"] / row["tolerance"] if isinstance(row["worst change"], float) else math.nan for row in measured]
    changes.scatter([max(value, _LEAST_SHARE) for value in worst], places, color=colours, s=24)
    changes.axvline(1.0, color=GREY, linestyle="--", linewidth=1)
    changes.set(xscale="log", xlabel="largest change / tolerance [-]")
    for axis in (shares, changes):
        axis.grid(False, axis="y")
    return figure


def _colour(row: Mapping[str, Any]) -> str:
    return VERMILLION if row["retained"] < RETENTION_LOW else ORANGE if row["what"] == "estimate" else BLUE


@styled
def draw_deciles(table: Table) -> Figure:
    """Draw the mean observed in each decile of the predicted flux, beside what was predicted."""
    figure = new_figure(5.0, 3.2)
    axis = figure.subplots()
    numbers = [row["decile"] for row in table]
    axis.plot(numbers, [row["predicted"] for row in table], color=BLUE, marker="o", markersize=4, label="predicted")
    axis.plot(numbers, [row["observed"] for row in table], color=VERMILLION, marker="s", markersize=4, label="observed")
    axis.set(xlabel="decile of the predicted flux", ylabel=f"mean flux [{UNIT}]", xticks=numbers)
    axis.legend()
    return figure


#: How a check's table is drawn, and what the figure says.
FIGURES: Mapping[str, tuple[Callable[[Table], Figure], str]] = {
    "retention": (
        draw_retention,
        "Share of samples that stay where they were, by transform, and the largest change of one beside what is allowed; in "
        "brackets what was asked, of how many samples. Grey: 0.94 to 0.96, the band that passes without advice. Red: too few.",
    ),
    "spearman": (
        draw_deciles,
        "Mean observed flux of the days in each decile of the predicted one. Monotone is good; close is better.",
    ),
}


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
