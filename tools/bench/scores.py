"""The table of a race: medians and quartiles over truths, one row a method.

Truths on which a method never reached a loss stay in its statistics, as infinitely slow, and are counted beside them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Adam's loss counts as reached this share above it: on easy problems it is the minimum itself, to rounding.
REACHED = 1e-4
#: "Within 1 % of the best known loss."
GOOD = 0.01
#: A run that ends further above the best known loss is stuck.
STUCK = 0.05

COLUMNS = (
    "method",
    "x to Adam's loss",
    "CPU x",
    "reached",
    "x to 1 %",
    "CPU x to 1 %",
    "reached 1 %",
    "final / best",
    "stuck",
    "evaluations",
    "peak [MiB]",
)


def describe(rows: pd.DataFrame) -> str:
    """Return the Markdown table of a race.

    Args:
        rows: One row a truth and method, as `race.py` writes them.
    """
    first = rows.iloc[0]
    truths = rows["truth"].nunique()
    heading = (
        f"T = {first['days']}, H = {first['hidden']}, layers = {first['layers']}, lambda_prior = {first['lambda_prior']:g}"
        f"{', observations from the process model' if first['mismatch'] else ''}: {truths} truths, "
        f"Adam's 500 steps take {rows['adam_seconds'].median():.2f} s. Medians (quartiles)."
    )
    lines = [heading, "", "| " + " | ".join(COLUMNS) + " |", "| " + " | ".join("---" for _ in COLUMNS) + " |"]
    lines += ["| " + " | ".join(_cells(method, some)) + " |" for method, some in rows.groupby("method", sort=False)]
    return "\n".join(lines)


def _cells(method: str, rows: pd.DataFrame) -> list[str]:
    excess = rows["final"] / rows["best_known"]
    return [
        method,
        _spread(rows["adam_seconds"] / rows["seconds_to_adam"]),
        _number(_quantile(rows["adam_cpu_seconds"] / rows["cpu_seconds_to_adam"], 0.5)),
        _count(np.isfinite(rows["seconds_to_adam"])),
        _spread(rows["adam_seconds"] / rows["seconds_to_best"]),
        _number(_quantile(rows["adam_cpu_seconds"] / rows["cpu_seconds_to_best"], 0.5)),
        _count(np.isfinite(rows["seconds_to_best"])),
        f"{excess.median():.3f} ({excess.quantile(0.25):.3f} to {excess.quantile(0.75):.3f}, worst {excess.max():.3f})",
        _count(excess > 1 + STUCK),
        f"{rows['evaluations'].median():.0f}",
        f"{rows['peak_mib'].median():.0f}",
    ]


def _spread(ratio: pd.Series) -> str:
    """Write median and quartiles of a speed-up; zero stands for never."""
    low, middle, high = (_quantile(ratio, q) for q in (0.25, 0.5, 0.75))
    return f"{_number(middle)} ({_number(low)} to {_number(high)})"


def _quantile(ratio: pd.Series, q: float) -> float:
    """Return a quantile that exists in the sample, the lower of two: no mean of a number and never."""
    return float(np.quantile(ratio, q, method="inverted_cdf"))


def _number(ratio: float) -> str:
    return "never" if ratio == 0 else f"{ratio:.3g}"


def _count(truth: pd.Series) -> str:
    return f"{int(truth.sum())}/{len(truth)}"
