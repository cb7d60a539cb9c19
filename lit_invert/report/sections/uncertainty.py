"""What the data determined: directions, pairs, profiles, worth of data, and what speaks against the posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ...results import Run
from ..html import cell, described, folded, note, number, pairs, records, sentences, table

_SHOWN = 12
_FIRST = 8


def method(run: Run) -> str:
    """Say how the posterior was made, and with which noise."""
    known = run.uncertainty
    if known is None:
        return ""
    rows = [{"flux": flux, **noise} for flux, noise in (known.get("noise") or {}).items()]
    prior = known.get("lambda_prior") or {}
    text = f"Method: {known['method']}, {known['members']} draws, {number(known['seconds'])} s."
    if prior:
        text += (
            f" Weight of the prior: {cell(prior.get('used'))} in the fit; derived from its standard deviations: "
            f"{cell(prior.get('derived'))} ({prior.get('formula', '')})."
        )
    table_of_noise = "<h3>Noise model, estimated</h3>" + records(rows) if rows else ""
    return note(text) + sentences(known.get("notes") or []) + table_of_noise


def directions(run: Run) -> str:
    """Return the directions of the parameters in words, the best known first."""
    known = run.uncertainty or {}
    found = known.get("directions") or []
    if not found:
        return ""
    rows = [[i, number(d["eigenvalue"]), "data" if i <= known["rank"] else "prior", d["words"]] for i, d in enumerate(found, 1)]
    labels = ["", "data over prior", "held by", "direction"]
    free = len(found) if run.posterior is None else int((run.posterior["class"] != "fixed").sum())
    head = f"<h3>Directions: {known['rank']} of {free} are held by the data</h3>" + table(labels, rows[:_FIRST], text=(2, 3))
    return head + folded(f"The other {len(rows) - _FIRST}", table(labels, rows[_FIRST:], text=(2, 3)) if rows[_FIRST:] else "")


def strongest_pairs(run: Run) -> str:
    """Return the pairs of parameters that the data can only tell together, the strongest first."""
    if run.posterior_correlation is None:
        return ""
    rows = [[a, b, f"{r:+.2f}"] for a, b, r in find_pairs(run.posterior_correlation, _SHOWN)]
    return "<h3>Strongest pairs</h3>" + table(["parameter", "and", "correlation"], rows, text=(0, 1))


def find_pairs(correlation: pd.DataFrame, count: int) -> list[tuple[str, str, float]]:
    """Return the pairs of largest correlation.

    Args:
        correlation: Rows and columns by name.
        count: How many.

    Returns:
        Two names and their correlation, the strongest first.
    """
    names = list(correlation.index)
    values = correlation[names].to_numpy(dtype=np.float64)
    first, second = np.triu_indices(len(names), 1)
    strength = np.nan_to_num(np.abs(values[first, second]))
    order = np.argsort(-strength, kind="stable")[:count]
    return [(names[first[i]], names[second[i]], float(values[first[i], second[i]])) for i in order]


def worth_of_data(run: Run) -> str:
    """Return which data would shrink, or have shrunk, which parameter most."""
    rows = (run.uncertainty or {}).get("data_worth") or []
    return (
        "<h3>Data worth</h3>" + records(rows[:_SHOWN]) + folded("All", records(rows) if len(rows) > _SHOWN else "") if rows else ""
    )


def profile_flags(run: Run) -> str:
    """Return what each profile says of its parameter."""
    profiles: Mapping[str, Any] = (run.uncertainty or {}).get("profiles") or {}
    return "<h3>Profiles</h3>" + records([{"parameter": name, **found} for name, found in profiles.items()]) if profiles else ""


def disagreements(run: Run) -> str:
    """Return what different methods say differently."""
    if run.posterior is None:
        return ""
    found = run.posterior[run.posterior["disagreement"] != ""]
    texts = [f"{row['name']}: {row['disagreement']}" for row in found.to_dict("records")]
    return "<h3>Where methods disagree</h3>" + sentences(texts) if texts else ""


def conflict(run: Run) -> str:
    """Return the days that no draw of the prior reaches, and whether the noise model holds."""
    known = run.uncertainty
    if known is None:
        return ""
    days, test = known.get("conflict") or [], known.get("misspecification") or {}
    said = "The prior does not reach the observations of these days." if days else "The prior reaches every observed day."
    listed = records(days) if len(days) <= _SHOWN else records(days[:_SHOWN]) + folded(f"All {len(days)}", records(days))
    asked = "conflict" in known
    return (f"<h3>Prior-data conflict</h3><p>{said}</p>{listed}" if asked else "") + (
        f"<h3>Misspecification</h3>{described(test)}" if test else ""
    )


def starts_summary(run: Run) -> str:
    """Return how the starts ended, and a record of each."""
    if run.starts is None or len(run.starts) < 2:
        return ""
    columns = [
        "start",
        "origin",
        "status",
        "round",
        "loss_start",
        "loss",
        "select_rmse",
        "iterations",
        "seconds",
        "cluster",
        "message",
    ]
    shown = run.starts[[column for column in columns if column in run.starts]]
    known = {key: value for key, value in (run.metrics.get("starts") or {}).items() if key != "r_t"}
    return (pairs(known) if known else "") + folded("Every start", records(shown.astype(object).to_dict("records")))
