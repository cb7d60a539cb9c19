"""One style for all figures: colours, units, and how fluxes are called.

Okabe and Ito's colours, which colour-blind readers tell apart. Matplotlib is imported when the first figure is drawn, without
pyplot and its global state, and its settings are left as they were.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pandas as pd

from ..metrics import flux_name as flux_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_P = ParamSpec("_P")
#: A figure, or None where there is nothing to draw.
_Drawn = TypeVar("_Drawn")

#: Okabe and Ito (2008), Color Universal Design.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
UNIT = "gC m$^{-2}$ d$^{-1}$"
#: Stands on every figure of the net flux, since half of the world counts it the other way round.
SIGN = "NEP > 0: sink (NEP = \N{MINUS SIGN}NEE)"
#: One colour a group, repeated where there are more.
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY)
#: What an interval of a simulated sum is.
INTERVALS = "5-95 %: parameters alone, around the posterior's mode; the optimum is the fit's own, with its lambda_prior."
#: Baselines as a reader calls them.
BASELINE_NAMES = {
    "prior": "the prior run",
    "season": "mean season of the fit days",
    "regression": "linear regression on the drivers",
}
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
    "savefig.dpi": 130,
}


def styled(draw: Callable[_P, _Drawn]) -> Callable[_P, _Drawn]:
    """Make a function draw in our style and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> _Drawn:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure [inch]."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def standing(fluxes: pd.DataFrame, *parts: str) -> str:
    """Say what constrains a flux of these parts where one of them was not observed; nothing where all were.

    Args:
        fluxes: Content of fluxes.csv.
        parts: Names of the outputs that it is made of.
    """
    seen = [column.removesuffix("_mask") for column in map(str, fluxes) if column.endswith("_mask") and fluxes[column].any()]
    if set(parts) <= set(seen):
        return ""
    return f"not observed: constrained through {', '.join(map(flux_name, seen))} and the prior alone"


def flux_label(output: str) -> str:
    """Return a flux with its unit."""
    return f"{flux_name(output)} [{UNIT}]"


def note_sign(axis: Axes, output: str) -> None:
    """Write the sign convention over the axis where the flux is the net one."""
    if output == "nep":
        axis.set_title(SIGN, loc="right", fontsize=8, color=GREY, fontweight="normal")


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
    columns = min(len(entries), 3 if len(entries) > 6 else 6)
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns, fontsize=8)
