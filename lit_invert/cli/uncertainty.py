"""What a fit prints of its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..report.sections.parameters import describe_partner
from ..report.style import flux_name
from ..results import Run
from .tables import add_row, new_table, number

#: Determined parameters that are shown.
_MOST_SHOWN = 12


def show_uncertainty(run: Run) -> None:
    """Print what the data determined, what they traded off, and whether the band held; nothing without an analysis."""
    posterior, summary = run.posterior, run.metrics.get("uncertainty")
    if posterior is None or summary is None or run.uncertainty is None:
        return
    console = Console(highlight=False, markup=False)
    determined = posterior[posterior["class"] == "determined"].sort_values("variance_ratio", kind="stable")
    if len(determined):
        console.print(_intervals(determined.head(_MOST_SHOWN)))
    target = run.metrics["target"]
    noise = run.uncertainty["noise"][target]
    free, days = _count(summary["free"], "direction"), _count(noise["n"], "day")
    console.print(
        f"The data know {summary['rank']} of {free} better than the prior: {days}, as good as "
        f"{_count(round(noise['n_eff']), 'independent one')} (noise {noise['sigma']:.2f} gC m-2 d-1 and "
        f"{100 * noise['share']:.0f} % of the flux, correlating by {noise['rho']:.2f} from day to day).",
        soft_wrap=True,
    )
    console.print(f"Parameters: {_classes(posterior, run.posterior_correlation)}.", soft_wrap=True)
    inside = [f"{100 * found['share']:.0f} % of {role}" for role, found in summary["coverage"].items() if found["n"]]
    if inside:
        console.print(f"{flux_name(target)} inside the 90 % band: {', '.join(inside)} days.", soft_wrap=True)
    console.print(_against(run.uncertainty), soft_wrap=True)


def _intervals(determined: pd.DataFrame) -> Table:
    table = new_table("parameters that the data determined", "parameter", "unit")
    for column in ("5 %", "median", "95 %", "sd reduced by"):
        table.add_column(Text(column), justify="right")
    for row in determined.to_dict("records"):
        numbers = (f"{row[column]:.4g}" for column in ("p05", "p50", "p95"))
        add_row(table, row["name"], row["unit"], *numbers, f"{number(row['sd_reduction_percent'], '.0f')} %")
    return table


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _against(known: Mapping[str, Any]) -> str:
    """Say in one line what speaks against the fit."""
    tests = known["misspecification"]["tests"]
    failed = [test["test"] for test in tests if test["verdict"] == "fail"]
    names = f" ({', '.join(failed)})" if failed else ""
    expected = known["conflict_expected"]
    days = f"{_count(expected['days'], 'day')} in conflict with the prior ({expected['expected_days']:.1f} by chance)"
    return f"{days}; {len(failed)} of {_count(len(tests), 'test')} of misspecification failed{names}."


def _classes(posterior: pd.DataFrame, correlation: pd.DataFrame | None) -> str:
    """Count the parameters of each class, and name those that are stuck or traded off."""
    parts = []
    for kind in ("determined", "traded off", "at bound", "prior only", "fixed"):
        rows = posterior[posterior["class"] == kind]
        partners = [describe_partner(row, correlation) for row in rows.to_dict("records")]
        names = [" with ".join(filter(None, pair)) for pair in zip(rows["name"], partners, strict=True)]
        if names:
            parts.append(f"{len(names)} {kind}" + (f" ({', '.join(names)})" if kind in ("traded off", "at bound") else ""))
    return ", ".join(parts)
