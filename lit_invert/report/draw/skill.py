"""Skill of the optimum against what needs no inversion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..style import BLACK, BLUE, VERMILLION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A skill below this is drawn as long as this: how bad worse than bad is, its number says.
_LEAST = -1.0


@styled
def skill_figure(skill: Mapping[str, float], labels: Mapping[str, str], days: int) -> Figure:
    """Draw the skill of the optimum against each baseline: 1 is perfect, below 0 the baseline is better.

    Args:
        skill: 1 - MSE / MSE of the baseline, by its name, on the test days [-].
        labels: Baselines as a reader calls them, by name.
        days: Number of the test days.
    """
    values = np.array(list(skill.values()), dtype=np.float64)
    shown = np.maximum(values, _LEAST)
    figure = new_figure(7, 1.0 + 0.34 * len(values))
    axis = figure.add_subplot()
    places = np.arange(len(values))
    axis.barh(places, shown, color=np.where(values > 0, BLUE, VERMILLION), height=0.6)
    for place, end, value in zip(places, shown, values, strict=True):
        axis.annotate(f"{value:+.2f}", (max(end, 0), place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.axvline(0, color=BLACK, linewidth=0.8)
    axis.set_yticks(places, [labels.get(name, name) for name in skill], parse_math=False)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set(xlim=(min(shown.min(initial=0) * 1.05, -0.05), 1.05), xlabel="skill of the optimum, 1 - MSE / MSE of the baseline")
    axis.set_title(f"Skill on the {days} test days")
    return figure
