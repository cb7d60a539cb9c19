"""What the data determined: noise, directions, pairs, profiles, and the record of the starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ...results import Run
from ..html import cell, folded, note, number, pairs, records, sentences, table
from ..style import flux_name

_SHOWN = 12


def method(run: Run) -> str:
    """Say how the posterior was made, and with which noise."""
    known = run.uncertainty
    if known is None:
        return ""
    rows = [
        [flux_name(flux), *(number(noise[key]) for key in ("sigma", "share", "rho")), noise["n"], number(noise["n_eff"])]
        for flux, noise in (known.get("noise") or {}).items()
    ]
    labels = ["flux", "constant part [gC m-2 d-1]", "share of the flux [-]", "correlation from day to day [-]", "days", "worth"]
    prior = known.get("lambda_prior") or {}
    text = f"Method: {known['method']}, {known['members']} draws, {number(known['seconds'])} s."
    if prior:
        text += (
            f" Weight of the prior: {cell(prior.get('used'))}{_of(prior.get('used_unit'))} in the fit; derived from its standard "
            f"deviations: {cell(prior.get('derived'))}{_of(prior.get('derived_unit'))} ({prior.get('formula', '')})."
        )
    shown = "<h3>Noise model, estimated</h3>" + table(labels, rows, text=(0,)) if rows else ""
    worth = note(
        "Standard deviation of an observation about the surrogate. Worth: as many independent days as these say as much as."
    )
    return note(text) + sentences(known.get("notes") or []) + shown + (worth if rows else "")


def _of(unit: str | None) -> str:
    return f" for a distance in {unit}" if unit else ""


def directions(run: Run) -> str:
    """Return the directions of the parameters in words, the best known first."""
    known = run.uncertainty or {}
    found = known.get("directions") or []
    if not found:
        return ""
    rows = [[i, number(d["eigenvalue"]), "data" if i <= known["rank"] else "prior", d["words"]] for i, d in enumerate(found, 1)]
    labels = ["", "data over prior", "held by", "direction"]
    free = len(found) if run.posterior is None else int((run.posterior["class"] != "fixed").sum())
    caption = note(
        "Data over prior: how many times more the data know of a direction than the prior does; above one, they hold it."
    )
    return f"<h3>Directions: {known['rank']} of {free} are held by the data</h3>" + table(labels, rows, text=(2, 3)) + caption


def trade_offs(run: Run) -> str:
    """Return the pairs of parameters that the data see, but cannot tell from each other, in words."""
    found = (run.uncertainty or {}).get("trade_offs") or []
    texts = [f"{pair['words']} (correlation {pair['correlation']:+.2f})." for pair in found]
    return "<h3>Trade-offs</h3>" + sentences(texts) if texts else ""


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
