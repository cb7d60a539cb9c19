"""What a fit and its checks print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..extensions import Verdict
from ..fit import FitOutcome
from ..report.page import headline
from ..report.sections.parameters import describe_bounds
from ..report.sections.trust import trust_verdict
from ..report.style import flux_name
from ..results import Run, load_parameters
from ..sites import Site
from .tables import add_row, new_table, number
from .uncertainty import show_uncertainty

_SCORES = ("rmse", "bias", "r", "nse", "kge")
#: Runs that are scored, and their name in the table.
_RUNS = {"prior": "prior", "optimum": "optimum", "resimulated": "model"}
#: Baselines that need no process model.
_SKILLS = {"season": "mean season", "regression": "linear regression"}
_COLOURS = {"pass": "green", "advice": "yellow", "fail": "red"}
#: Parameters that the summary of a fit shows.
_MOST_MOVED = 8
#: Parameters that the summary of a sensitivity analysis shows.
_MOST_SENSITIVE = 10


def show_outcome(outcome: FitOutcome) -> None:
    """Print what a fit reached: scores by role, the parameters that moved most, advice, and where everything is."""
    console = Console(highlight=False, markup=False)
    metrics = outcome.metrics
    console.print(_scores(metrics))
    console.print(_moved(load_parameters(outcome.folder)))
    run = Run(outcome.folder)
    for line in filter(None, (describe_bounds(run), _skill(metrics), _trust(metrics))):
        console.print(line, soft_wrap=True)
    show_uncertainty(run)
    for verdict in outcome.verdicts:
        if verdict.outcome != "pass":
            console.print(f"{verdict.check}: {verdict.message}", style=_COLOURS[verdict.outcome], soft_wrap=True)
    passed = [verdict.check for verdict in outcome.verdicts if verdict.outcome == "pass"]
    if passed:
        console.print(f"Checks passed: {', '.join(passed)}.", soft_wrap=True)
    for sentence in metrics["advice"]:
        console.print(sentence, style="yellow", soft_wrap=True)
    console.print(headline(metrics), style="bold", soft_wrap=True)
    message = outcome.result.message
    console.print(f"{message[:1].upper()}{message[1:]} ({outcome.result.seconds:.1f} s).", soft_wrap=True)
    console.print(f"Results: {outcome.folder}", soft_wrap=True)
    console.print(f"Report:  {outcome.folder / 'report.html'}", soft_wrap=True)


def _scores(metrics: Mapping[str, Any]) -> Table:
    target = metrics["target"]
    table = new_table(f"{flux_name(target)} at {metrics.get('site', 'the site')} [gC m-2 d-1]", "days", "run")
    for column in ("n", "RMSE", "change", "bias", "r", "NSE", "KGE"):
        table.add_column(column, justify="right")
    for role, fluxes in metrics["roles"].items():
        score = fluxes.get(target)
        if not score or not score["n"]:
            continue
        for run, label in _RUNS.items():
            if run in score:
                numbers = {name: number(score[run][name]) for name in _SCORES}
                change = f"{number(score['rmse_change_percent'], '+.1f')} %" if run == "optimum" else ""
                first = run == "prior"
                rest = [numbers[name] for name in _SCORES[1:]]
                add_row(table, role if first else "", label, str(score["n"]) if first else "", numbers["rmse"], change, *rest)
        table.add_section()
    if metrics["resimulation_gap"] is not None:
        table.caption, table.caption_justify = "model: the process model, run at the optimum", "left"
    return table


def _skill(metrics: Mapping[str, Any]) -> str:
    """Say in one line whether the optimum is better than what needs no process model, on the days that were not fitted."""
    said = []
    for role in ("test", "select"):
        skill = ((metrics.get("baselines") or {}).get(role) or {}).get("skill") or {}
        known = {name: value for name, value in skill.items() if name != "prior" and value is not None}
        if known:
            parts = [f"{_SKILLS.get(n, n)} {value:+.2f} ({'better' if value > 0 else 'worse'})" for n, value in known.items()]
            said.append(f"{role} days, against the {' and the '.join(parts)}")
    return f"Skill on {'; on '.join(said)}." if said else ""


def _trust(metrics: Mapping[str, Any]) -> str:
    return trust_verdict(metrics["support"]) if metrics.get("support") else ""


def _moved(parameters: pd.DataFrame) -> Table:
    table = new_table("parameters that moved most", "parameter", "unit")
    for column in ("prior", "optimum", "shift [prior sd]", "optimum at bound"):
        table.add_column(Text(column), justify="right")
    order = parameters["shift_in_sd"].abs().sort_values(ascending=False, kind="stable").index[:_MOST_MOVED]
    for row in parameters.loc[order].to_dict("records"):
        numbers = f"{row['prior']:.4g}", f"{row['optimum']:.4g}", f"{row['shift_in_sd']:+.2f}"
        add_row(table, row["name"], row["unit"], *numbers, row["at_bound"])
    return table


def show_site(site: Site) -> None:
    """Print how many days each role has, and what was derived or assumed on reading."""
    console = Console(highlight=False, markup=False)
    roles, days = np.unique(site.roles, return_counts=True)
    shares = ", ".join(f"{count} {role}" for role, count in zip(roles, days, strict=True))
    console.print(f"{site.name}: {len(site.roles)} days from {site.dates[0]} to {site.dates[-1]}: {shares}.", soft_wrap=True)
    for note in site.notes:
        console.print(f"  {note}", soft_wrap=True)


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print what the checks found."""
    table = new_table("checks before the fit", "check", "outcome", "finding")
    for verdict in verdicts:
        table.add_row(verdict.check, Text(verdict.outcome, _COLOURS[verdict.outcome]), Text(verdict.message))
    Console(highlight=False, markup=False).print(table)


def show_gap(gap: Mapping[str, Mapping[str, float]]) -> None:
    """Print how far surrogate and process model are apart at the optimum."""
    table = new_table("surrogate minus process model", "flux")
    for column in ("RMSE [gC m-2 d-1]", "bias [gC m-2 d-1]"):
        table.add_column(Text(column), justify="right")
    for flux, numbers in gap.items():
        add_row(table, flux_name(flux), number(numbers["rmse"]), number(numbers["bias"], "+.3f"))
    Console(highlight=False, markup=False).print(table)


def show_sensitivity(table: pd.DataFrame, method: str, target: str) -> None:
    """Print the parameters to which the misfit of the target responds most."""
    measures = {"morris": ("mu_star", "mu_star_conf", "sigma"), "sobol": ("st", "st_conf", "s1", "s1_conf")}[method]
    rows = table[(table["method"] == method) & (table["output"] == f"rmse_{target}")]
    shown = new_table(f"{flux_name(target)} RMSE of the fit days, {method}", "parameter")
    for column in measures:
        shown.add_column(Text(column), justify="right")
    for row in rows.nlargest(_MOST_SENSITIVE, measures[0]).to_dict("records"):
        add_row(shown, row["parameter"], *(number(row[column]) for column in measures))
    Console(highlight=False, markup=False).print(shown)
