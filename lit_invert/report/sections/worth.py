"""What other observations would tell, and what those of each season have told."""

from __future__ import annotations

from ...results import Run
from ..html import folded, note, number, table

_SHOWN = 12
#: Least change of a standard deviation that is told [%].
_LEAST = 5.0


def worth_of_data(run: Run) -> str:
    """Return which observations would shrink which parameter's interval most, and which season has shrunk it."""
    rows = (run.uncertainty or {}).get("data_worth") or []
    gains, losses = [], []
    for row in rows:
        change, of = row["sd_reduction_percent"], [row["what"], row["parameter"]]
        if change >= _LEAST:
            gains.append([*of, number(change), f"{row['rank_gain']:+d}"])
        elif change <= -_LEAST:
            losses.append([*of, f"{1 - change / 100:.1f}-fold", f"{row['rank_gain']:+d}"])
    return _shown("What to measure next", ["observing", "parameter", "its sd falls by [%]", "directions"], gains) + _shown(
        "What each season gave", ["without it", "parameter", "its sd grows", "directions"], losses
    )


def _shown(title: str, labels: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    rest = folded(f"The other {len(rows) - _SHOWN}", table(labels, rows[_SHOWN:], text=(0, 1))) if rows[_SHOWN:] else ""
    return (
        f"<h3>{title}</h3>"
        + table(labels, rows[:_SHOWN], text=(0, 1))
        + rest
        + note("Directions: how many more, or fewer, the data would know better than the prior.")
    )
