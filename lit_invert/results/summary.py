"""The numbers of a run: scores by role, annual sums, plausibility, and what a reader should be told.

Scores are kept apart by role (`fit`, `select`, `test`); only those of `test` are evidence, since no choice was made by them. Fluxes
that nobody measured are judged by whether their annual sums stay in bands that ecosystems are known to keep: NEP is a small
difference of large fluxes, and can be right for the wrong reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..baselines import BASELINES
from ..metrics import bias, rmse, scores
from ..surrogates.base import SurrogateSpec
from .advice import advise
from .result import InversionResult
from .starts import summarise_starts

#: Roles of observed days that are scored.
ROLES = ("fit", "select", "test")
#: Runs that are scored, as the columns of fluxes.csv end.
RUNS = ("prior", "optimum", "resimulated")
#: Fewest simulated days whose mean says something about a year.
_FEWEST_DAYS = 330
_DAYS_A_YEAR = 365.25


@dataclass(frozen=True)
class Band:
    """Where the long-term mean of a quantity is plausible."""

    quantity: str
    low: float
    high: float
    unit: str
    source: str


_FORESTS = "beyond every forest biome's mean in Luyssaert et al. (2007), doi:10.1111/j.1365-2486.2007.01439.x"
#: Wide on purpose: outside a band something is wrong, inside it nothing is proven.
PLAUSIBLE = (
    Band("gpp", 0.0, 4000.0, "gC m-2 yr-1", _FORESTS),
    Band("npp", 0.0, 2000.0, "gC m-2 yr-1", _FORESTS),
    Band("rh", 0.0, 2000.0, "gC m-2 yr-1", _FORESTS),
    Band("cue", 0.3, 0.7, "-", "0.46 +- 0.12 in Collalti and Prentice (2019), doi:10.1093/treephys/tpz034"),
)


def summarise(
    result: InversionResult,
    fluxes: pd.DataFrame,
    parameters: pd.DataFrame,
    spec: SurrogateSpec,
    support: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of metrics.json.

    Args:
        result: The inversion.
        fluxes: As `flux_table` returns it.
        parameters: As `parameter_table` returns it.
        spec: The surrogate's outputs, warm-up and accuracy.
        support: How far the surrogate was trained for this optimum, where that was measured.

    Returns:
        Plain values, NaN where a score has no meaning; docs/results.md explains the keys.
    """
    warm = fluxes.iloc[spec.warmup_days :]
    stuck = parameters[parameters["at_bound"] != ""]
    metrics: dict[str, Any] = {
        "status": result.status.key,
        "message": result.message,
        "target": result.target,
        "iterations": result.iterations,
        "best_iteration": result.best_iteration,
        "monitor": result.monitor,
        "seconds": result.seconds,
        "roles": score_roles(fluxes, spec.output_names),
        "baselines": score_baselines(fluxes, result.target),
        "annual_sums": _annual_sums(warm, spec.output_names),
        "plausibility": judge_plausibility(warm, spec.output_names),
        "parameter_distance": _distance(result, parameters),
        "at_bound": dict(zip(stuck["name"], stuck["at_bound"], strict=True)),
        "loss": {"prior": dict(result.loss_prior), "optimum": dict(result.loss_optimum)},
        "resimulation_gap": _resimulation_gap(warm, spec.output_names),
        "surrogate": {"name": spec.name, "accuracy": dict(spec.accuracy)},
        "support": support,
        "starts": None if result.starts is None else summarise_starts(result.starts),
    }
    return {**metrics, "advice": advise(metrics)}


def score_roles(fluxes: pd.DataFrame, outputs: Sequence[str]) -> dict[str, Any]:
    """Score every run on the observed days of each role.

    Args:
        fluxes: As `flux_table` returns it.
        outputs: Names of the fluxes; those never observed are left out.

    Returns:
        By role and flux: `n`, `rmse_change_percent` (of the optimum against the prior, negative is better), and for each run its
        `rmse`, `bias`, `r`, `nse` and `kge`.
    """
    return {
        role: {name: _score(fluxes[fluxes["role"] == role], name) for name in outputs if fluxes[f"{name}_mask"].any()}
        for role in ROLES
    }


def _score(days: pd.DataFrame, name: str) -> dict[str, Any]:
    observed, mask = days[f"{name}_observed"], days[f"{name}_mask"]
    runs = {run: scores(days[f"{name}_{run}"], observed, mask) for run in RUNS if f"{name}_{run}" in days}
    before, after = runs["prior"]["rmse"], runs["optimum"]["rmse"]
    change = 100 * (after - before) / before if before > 0 else math.nan
    without_n = {run: {key: value for key, value in found.items() if key != "n"} for run, found in runs.items()}
    return {"n": runs["prior"]["n"], "rmse_change_percent": change, **without_n}


def score_baselines(fluxes: pd.DataFrame, target: str) -> dict[str, Any]:
    r"""Score the baselines and the prior run on the observed days of each role, and the skill of the optimum against each.

    .. math:: 1 - \mathrm{MSE}_{optimum} / \mathrm{MSE}_{baseline}

    Args:
        fluxes: As `flux_table` returns it.
        target: The flux that was fitted.

    Returns:
        By role with observed days: each baseline's `rmse`, `bias`, `r`, `nse` and `kge`, and under `skill` a number each, positive
        where the optimum is better; nothing where the table has no baselines.
    """
    if f"{target}_{next(iter(BASELINES))}" not in fluxes:
        return {}
    by_role = {role: fluxes[(fluxes["role"] == role) & fluxes[f"{target}_mask"]] for role in ROLES}
    return {role: _score_rivals(days, target) for role, days in by_role.items() if len(days)}


def _score_rivals(days: pd.DataFrame, target: str) -> dict[str, Any]:
    observed = days[f"{target}_observed"]
    every = np.ones(len(days), dtype=bool)
    found = {name: scores(days[f"{target}_{name}"], observed, every) for name in (*BASELINES, "prior")}
    own = rmse(days[f"{target}_optimum"], observed) ** 2
    skill = {name: 1 - own / score["rmse"] ** 2 if score["rmse"] > 0 else math.nan for name, score in found.items()}
    return {**{name: {key: value for key, value in score.items() if key != "n"} for name, score in found.items()}, "skill": skill}


def _annual_sums(days: pd.DataFrame, outputs: Sequence[str]) -> dict[str, Any]:
    """Sum each simulated flux over each calendar year, and say over how many days."""
    sums: dict[str, Any] = {}
    for year, group in days.groupby(days["date"].str[:4]):
        fluxes = {name: {run: float(group[f"{name}_{run}"].sum()) for run in _runs(group, name)} for name in outputs}
        sums[str(year)] = {"days": len(group), **fluxes}
    return sums


def _runs(days: pd.DataFrame, name: str) -> list[str]:
    return [run for run in RUNS if f"{name}_{run}" in days]


def judge_plausibility(days: pd.DataFrame, outputs: Sequence[str]) -> list[dict[str, Any]]:
    """Hold annual means of the simulated fluxes, and carbon-use efficiency NPP / GPP, against :data:`PLAUSIBLE`.

    Args:
        days: As `flux_table` returns it, without warm-up.
        outputs: Names of the fluxes.

    Returns:
        For each band whose fluxes are there: its fields, the value of each run, and `plausible` for each run; nothing when the days
        are too few to speak of a year.
    """
    if len(days) < _FEWEST_DAYS:
        return []
    judged = []
    for band in PLAUSIBLE:
        if any(name not in outputs for name in (("npp", "gpp") if band.quantity == "cue" else (band.quantity,))):
            continue
        values = {run: _annual_mean(days, band.quantity, run) for run in _runs(days, outputs[0])}
        verdicts = {run: bool(band.low <= value <= band.high) for run, value in values.items()}
        judged.append({**asdict(band), **values, "plausible": verdicts})
    return judged


def _annual_mean(days: pd.DataFrame, quantity: str, run: str) -> float:
    if quantity == "cue":
        gpp = float(days[f"gpp_{run}"].sum())
        return float(days[f"npp_{run}"].sum()) / gpp if gpp > 0 else math.nan
    return float(days[f"{quantity}_{run}"].mean()) * _DAYS_A_YEAR


def _distance(result: InversionResult, parameters: pd.DataFrame) -> dict[str, float]:
    """Return how far the parameters moved: Euclidean, in the surrogate's scaled space and in standard deviations of the prior."""
    scaled = (result.optimum_scaled - result.prior_scaled).detach().double().norm().item()
    return {"scaled": scaled, "prior_sd": float(np.linalg.norm(parameters["shift_in_sd"]))}


def _resimulation_gap(days: pd.DataFrame, outputs: Sequence[str]) -> dict[str, Any] | None:
    """Return how far the surrogate is from the process model at the optimum, for each flux; None without a re-simulation."""
    if f"{outputs[0]}_resimulated" not in days:
        return None
    pairs = {name: (days[f"{name}_optimum"], days[f"{name}_resimulated"]) for name in outputs}
    return {name: {"rmse": rmse(*pair), "bias": bias(*pair)} for name, pair in pairs.items()}
