"""The table of parameters: what they were, what they became, and what decided it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import pandas as pd

from ...results import Run
from ..html import note, number, table
from ..ranges import share_agreeing


def parameters_table(run: Run) -> str:
    """Return every parameter before and after, with its interval, class and agreement of starts where these are known."""
    table_rows = run.parameters.to_dict("records")
    posterior = {} if run.posterior is None else {row["name"]: row for row in run.posterior.to_dict("records")}
    agreeing = None if run.starts is None or len(run.starts) < 2 else share_agreeing(run.starts, run.parameters)
    rows, words = [], ["name", "unit", "5-95 %", "optimum at bound", "class", "meaning"]
    for place, row in enumerate(table_rows):
        cells = _cells(row, posterior.get(row["name"]), run.posterior_correlation)
        if agreeing is not None:
            cells["starts agreeing"] = "" if math.isnan(agreeing[place]) else f"{agreeing[place]:.0%}"
        rows.append({**cells, "meaning": row["description"]})
    labels = list(rows[0])
    return table(
        labels, [list(row.values()) for row in rows], text=[labels.index(word) for word in words if word in labels]
    ) + _notes(run)


def _cells(row: dict[Any, Any], after: dict[Any, Any] | None, correlation: pd.DataFrame | None) -> dict[str, str]:
    """Return the cells of one parameter, by their labels; those of the posterior only where there is one."""
    known = {"name": row["name"], "unit": row["unit"]}
    known |= {label: f"{row[column]:.4g}" for label, column in _NUMBERS.items()}
    if after is not None:
        interval = "" if math.isnan(after["p05"]) else f"{after['p05']:.3g} to {after['p95']:.3g}"
        known |= {"mode": f"{after['mode']:.4g}", "5-95 %": interval, "sd less [%]": number(after["sd_reduction_percent"])}
    known |= {"shift [sd]": f"{row['shift_in_sd']:+.2f}", "optimum at bound": "fixed" if row["fixed"] else row["at_bound"]}
    if after is not None:
        known["class"] = " with ".join(filter(None, (after["class"], describe_partner(after, correlation))))
    return known


def describe_partner(row: Mapping[Any, Any], correlation: pd.DataFrame | None) -> str:
    """Return what a parameter is traded off with, and their correlation; empty where it is with nothing.

    Args:
        row: Row of posterior.csv.
        correlation: Content of posterior_correlation.csv by name, if there is one.
    """
    partner: str = row["traded_with"]
    if correlation is None or partner not in correlation:
        return partner
    return f"{partner} ({correlation.loc[row['name'], partner]:+.2f})"


_NUMBERS = {"prior": "prior", "sd": "prior_sd", "min": "min", "max": "max", "optimum": "optimum"}


def _notes(run: Run) -> str:
    texts = ["Shift: optimum less prior in standard deviations of the prior, in the surrogate's scaled space."]
    if run.posterior is not None:
        texts.append(
            "Mode and 5-95 %: of the posterior, whose weight of the prior may differ from the fit's. "
            "sd less: how much narrower the posterior is than the prior cut to the bounds."
        )
    if run.starts is not None and len(run.starts) > 1:
        texts.append("Starts agreeing: share of the finished starts that ended within a quarter of a prior's sd of the best one.")
    return note(" ".join(texts))


def parameters_summary(run: Run) -> str:
    """Say in a sentence how many parameters moved and how far, and of which class they are."""
    distance = run.metrics["parameter_distance"]
    text = (
        f"{len(run.parameters)} parameters. {describe_bounds(run)} Distance of the optimum from the prior: "
        f"{number(distance['scaled'])} in the surrogate's scaled space, {number(distance['prior_sd'])} in standard deviations of "
        "the prior."
    )
    if run.posterior is not None:
        counts = run.posterior["class"].value_counts()
        text += f" By what decided them: {', '.join(f'{count} {name}' for name, count in counts.items())}."
    return f"<p>{escape(text)}</p>" + note(describe_outside(run))


def describe_bounds(run: Run) -> str:
    """Say how many optima of the fit lie at a bound, and of which parameters the posterior does."""
    optima = list(run.metrics["at_bound"])
    text = f"{len(optima)} {'optimum' if len(optima) == 1 else 'optima'} at a bound" + _names(optima)
    if run.posterior is None:
        return f"{text}."
    return f"{text}; posterior at a bound{_names(run.posterior.loc[run.posterior['class'] == 'at bound', 'name']) or ': none'}."


def _names(names: Iterable[str]) -> str:
    return f": {', '.join(names)}" if list(names) else ""


def describe_outside(run: Run) -> str:
    """Say which optima of the fit lie outside their posterior's 5-95 % interval, and why that may be; empty without a posterior."""
    if run.posterior is None:
        return ""
    optimum, after = run.parameters["optimum"], run.posterior
    names = list(after.loc[~after["fixed"].astype(bool) & ((optimum < after["p05"]) | (optimum > after["p95"])), "name"])
    text = f"{len(names)} of the fit's optima lie outside their 5-95 % interval{_names(names)}."
    weight = (run.uncertainty or {}).get("lambda_prior") or {}
    if not names or weight.get("used") is None:
        return text
    return (
        f"{text} Fit and posterior weigh the prior differently ({number(weight['used'])} in the fit, {number(weight['derived'])} "
        "from noise and independent days), and the fit's iterate was chosen by its select days."
    )
