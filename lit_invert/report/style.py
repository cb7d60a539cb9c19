"""One style for all figures.

Okabe and Ito's colours, which colour-blind readers tell apart. Matplotlib is imported when the first figure is drawn, without
pyplot and its global state, and its settings are left as they were.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_P = ParamSpec("_P")

#: Okabe and Ito (2008), Color Universal Design.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
UNIT = "gC m$^{-2}$ d$^{-1}$"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "savefig.dpi": 150,
}


def styled(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Make a function draw in our style and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure [inch]."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def date_axis(axis: Axes, fluxes: pd.DataFrame) -> None:
    """Let the axis run over the whole record, with short dates."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=13)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    room = (fluxes["date"].iloc[-1] - fluxes["date"].iloc[0]) / 100
    axis.set_xlim(fluxes["date"].iloc[0] - room, fluxes["date"].iloc[-1] + room)


def legend_below(figure: Figure, *axes: Axes) -> None:
    """Put one legend for all these axes below the figure, each label once."""
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    columns = min(len(entries), 4 if len(entries) > 6 else 6)
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns, fontsize=8)
