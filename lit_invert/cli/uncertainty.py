"""What a fit prints of its uncertainty."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
    console.print(
        f"The data know {summary['rank']} of {summary['free']} directions better than the prior: {noise['n']} days, as good as "
        f"{noise['n_eff']:.0f} independent ones (noise {noise['sigma']:.2f} gC m-2 d-1 and "
        f"{100 * noise['share']:.0f} % of the flux, correlating by {noise['rho']:.2f} from day to day).",
        soft_wrap=True,
    )
    console.print(f"Parameters: {_classes(posterior)}.", soft_wrap=True)
    test = summary["coverage"]["test"]
    if test["n"]:
        console.print(f"{flux_name(target)} on the test days: {100 * test['share']:.0f} % inside the 90 % band.", soft_wrap=True)


def _intervals(determined: pd.DataFrame) -> Table:
    table = new_table("parameters that the data determined", "parameter", "unit")
    for column in ("5 %", "median", "95 %", "sd reduced by"):
        table.add_column(Text(column), justify="right")
    for row in determined.to_dict("records"):
        numbers = (f"{row[column]:.4g}" for column in ("p05", "p50", "p95"))
        add_row(table, row["name"], row["unit"], *numbers, f"{number(row['sd_reduction_percent'], '.0f')} %")
    return table


def _classes(posterior: pd.DataFrame) -> str:
    """Count the parameters of each class, and name those that are stuck or traded off."""
    parts = []
    for kind in ("determined", "traded off", "at bound", "prior only", "fixed"):
        rows = posterior[posterior["class"] == kind]
        names = [
            f"{row['name']} with {row['traded_with']}" if row["traded_with"] else row["name"] for row in rows.to_dict("records")
        ]
        if names:
            parts.append(f"{len(names)} {kind}" + (f" ({', '.join(names)})" if kind in ("traded off", "at bound") else ""))
    return ", ".join(parts)
