"""Where other evidence contradicts what a posterior says of a parameter: its profile, and equally good starts of the fit.

A class (:mod:`lit_invert.posterior.identify`) is a statement of one approximation around one mode. A profile looks far from the
mode, and starts that ended at other places with the same loss have been there; where they contradict a class, it is not believed
silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..problem import InversionProblem
from .identify import DETERMINED, cut_prior_sd
from .target import to_units, unit_bounds


def disagreements(
    classes: Mapping[str, str],
    profiles: Mapping[str, Mapping[str, Any]] | None = None,
    start_spread: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Say where other evidence contradicts the class of a parameter.

    Args:
        classes: Class by name.
        profiles: By name what its profile says: `flag`, `low_closed_by` and `high_closed_by`, as
            :func:`lit_invert.posterior.profiles.read_profile` returns them.
        start_spread: From :func:`spread_of_starts`.

    Returns:
        A sentence for each name that has a contradiction.

    Example:
        >>> disagreements({"pmax": "determined"}, {"pmax": {"flag": "flat"}})
        {'pmax': 'called determined, but its profile is flat'}
    """
    reasons: dict[str, list[str]] = {}
    for name, found in (profiles or {}).items():
        closed = {found.get("low_closed_by"), found.get("high_closed_by")}
        if classes[name] == "determined" and found["flag"] != "two-sided":
            reasons.setdefault(name, []).append(f"its profile is {found['flag']}")
        elif classes[name] == "determined" and closed == {"prior"}:
            reasons.setdefault(name, []).append("its own prior closes its profile on both sides")
        elif classes[name] == "prior only" and closed == {"data"}:
            reasons.setdefault(name, []).append("the data close its profile on both sides")
    for name, spread in (start_spread or {}).items():
        if classes[name] == "determined" and spread > DETERMINED:
            reasons.setdefault(name, []).append(f"equally good starts of the fit end {spread:.1f} prior sd apart")
    return {name: f"called {classes[name]}, but {' and '.join(found)}" for name, found in reasons.items()}


def spread_of_starts(problem: InversionProblem, starts: pd.DataFrame) -> dict[str, float]:
    """Return how far apart equally good starts ended: the standard deviation over their clusters, over the cut prior's.

    Each cluster speaks once, by its best start, however many starts it has. Starts that were dropped on the way were not run to
    their end and say nothing.

    Args:
        problem: The problem of the fit.
        starts: As :func:`lit_invert.results.start_table` returns it.

    Returns:
        By name of each free parameter [-]; nothing where fewer than two clusters are equally good.
    """
    ended = starts[(starts["status"] == "finished") & (starts["cluster"] >= 0)]
    best = ended.sort_values("loss", kind="stable").drop_duplicates("cluster")
    if len(best) < 2:
        return {}
    space, names = problem.space, problem.space.table.names
    theta = space.to_theta(torch.tensor(best.iloc[:, -len(names) :].to_numpy(dtype=np.float64)).to(space.priors))
    lower, upper = unit_bounds(problem, space.to_theta(space.priors))
    spread = to_units(problem, theta).std(0) / cut_prior_sd(lower, upper)[0]
    return {names[i]: float(spread[i]) for i in (~space.fixed).nonzero().flatten().tolist()}
