"""How well the run fits: scores by role, skill against baselines, and the dates of the season."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...metrics import amplitude_ratio, bias, chi_squared, kge, mae, nse, pearson_r, rmse, slope, unbiased_rmse
from ...results import Run
from ..draw.fluxes import observed_days
from ..html import folded, note, number, table
from ..season import date_name, find_season, mean_cycle
from ..style import BASELINE_NAMES, flux_name

#: Runs as a reader calls them, in the order of the tables.
RUNS = {"prior": "prior", "optimum": "optimum", "resimulated": "process model"}
_DAYS_A_YEAR = 365.25
_SHOWN = {"bias": bias, "r": pearson_r, "NSE": nse, "KGE": kge}
_FURTHER = {"ubRMSE": unbiased_rmse, "MAE": mae, "slope": slope}
#: Share of their standard deviation that the observations' mean must reach for KGE, which divides by the mean, to say anything.
_LEAST_MEAN = 0.1
_LEGEND = (
    "RMSE and bias in gC m-2 d-1; bias/yr: bias times 365.25, gC m-2 yr-1. NEP is positive when the land is a sink (NEP = -NEE). "
    "KGE divides by the mean flux: a dash where that is less than a tenth of the observations' standard deviation. "
    "\N{GREEK SMALL LETTER CHI}\u00b2/dof: by the data's own errors, else by the estimated noise, the surrogate's error in "
    "it; empty without both. Process model: run at the same optimum in place of the surrogate."
)


def scores_table(run: Run) -> str:
    """Return the scores of every run on the observed days of each role, those that are evidence first."""
    rows, further = [], []
    for flux in (output for output in run.outputs if run.fluxes[f"{output}_mask"].any()):
        for role, days in reversed(list(observed_days(run.fluxes, flux))):
            errors = {name: rmse(days[f"{flux}_{name}"], days[f"{flux}_observed"]) for name in RUNS if f"{flux}_{name}" in days}
            for name, error in errors.items():
                before = errors["prior"]
                change = f"{100 * (error / before - 1):+.0f} %" if name == "optimum" and before > 0 else ""
                whose = [role, flux_name(flux), len(days), RUNS[name]]
                rows.append([*whose, f"{error:.2f}", change, *_scores(run, flux, role, name, days)])
                further.append([*whose, *_further(flux, name, days)])
    columns = ["days", "flux", "n", "run"]
    labels = [*columns, "RMSE", "change", *_SHOWN, "bias/yr", "\N{GREEK SMALL LETTER CHI}\u00b2/dof"]
    return table(labels, rows, text=(0, 1, 3)) + note(_LEGEND) + _fold_further([*columns, *_FURTHER, "amplitude"], further)


def _fold_further(labels: list[str], rows: list[list[Any]]) -> str:
    legend = (
        "ubRMSE (RMSE without the bias) and MAE in gC m-2 d-1; slope of the regression; amplitude: range of the monthly means over "
        "that of the observed ones."
    )
    return folded("Further scores", table(labels, rows, text=(0, 1, 3)) + note(legend))


def _further(flux: str, name: str, days: pd.DataFrame) -> list[str]:
    simulated, observed = days[f"{flux}_{name}"], days[f"{flux}_observed"]
    ratio = amplitude_ratio(simulated, observed, days["date"].dt.month)
    return [*(_two(score(simulated, observed)) for score in _FURTHER.values()), _two(ratio)]


def _scores(run: Run, flux: str, role: str, name: str, days: pd.DataFrame) -> list[str]:
    simulated, observed = days[f"{flux}_{name}"], days[f"{flux}_observed"]
    used = _spent(run, flux) if role == "fit" and name == "optimum" else 0.0
    sigma = _sigma(run, flux, days)
    chi = float("nan") if sigma is None else chi_squared(simulated, observed, sigma, used)
    shown = {label: _two(score(simulated, observed)) for label, score in _SHOWN.items()}
    if abs(observed.mean()) < _LEAST_MEAN * observed.std():
        shown["KGE"] = "\N{EN DASH}"
    return [*shown.values(), number(_DAYS_A_YEAR * bias(simulated, observed)), _two(chi)]


def _spent(run: Run, flux: str) -> float:
    """Return how many parameters the residuals of the fit have paid for: the effective number, or the rank in an older run."""
    known = run.uncertainty or {}
    return float((known.get("spent") or {}).get(flux, known.get("rank", 0)))


def _sigma(run: Run, flux: str, days: pd.DataFrame) -> pd.Series | None:
    """Return the standard deviation of each observation: the data's own, or that of noise and surrogate together."""
    if f"{flux}_sigma" in days:
        return days[f"{flux}_sigma"]
    if run.bands is None or f"{flux}_noise_sd" not in run.bands:
        return None
    parts = run.bands.loc[days.index, [f"{flux}_noise_sd", f"{flux}_surrogate_sd"]].fillna({f"{flux}_surrogate_sd": 0.0})
    return parts.pow(2).sum(axis=1, skipna=False).pow(0.5)


def _two(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""


def baselines_table(run: Run) -> str:
    """Return the errors of what needs no process model, and the optimum's skill against each; nothing where there are none."""
    baselines, target = run.metrics.get("baselines") or {}, run.metrics["target"]
    rows = []
    for role in (role for role in ("test", "select", "fit") if role in baselines):
        own = run.metrics["roles"][role].get(target)
        if not own or not own["n"]:
            continue
        for name, found in ((n, f) for n, f in baselines[role].items() if n != "skill"):
            skill = (baselines[role].get("skill") or {}).get(name)
            verdict = "" if skill is None else "better" if skill > 0 else "worse" if skill < 0 else "no better"
            cells = [number(found.get("rmse")), number(own["optimum"]["rmse"]), number(skill), verdict]
            rows.append([role, BASELINE_NAMES.get(name, name), *cells])
    if not rows:
        return ""
    labels = ["days", "baseline", "its RMSE", "RMSE of the optimum", "skill", "the optimum is"]
    return (
        "<h3>Skill against baselines</h3>"
        + table(labels, rows, text=(0, 1, 5))
        + note(
            "Skill: 1 - MSE / MSE of the baseline; 1 is perfect, 0 no better than the baseline. Baselines saw the fit days only."
        )
    )


def season_table(run: Run) -> str:
    """Return when the mean year turns from source to sink and back, and its peak."""
    target = run.metrics["target"]
    warm = run.fluxes.iloc[run.warmup_days :]
    seen = warm[f"{target}_observed"].where(warm[f"{target}_mask"].astype(bool))
    columns = {"observed": seen, **{label: warm[f"{target}_{name}"] for name, label in RUNS.items() if f"{target}_{name}" in warm}}
    rows = [[label, *_season_cells(values, warm["date"])] for label, values in columns.items()]
    labels = ["", "source to sink", "sink to source", "days as a sink", "peak on", "peak [gC m-2 d-1]"]
    return (
        f"<h3>The mean season of {flux_name(target)}</h3>"
        + table(labels, rows, text=(0,))
        + note(
            "First and last day of the longest time above zero in the mean year, smoothed by a Gaussian of 10 days. A dash: "
            "beside days without an observation, or no change of sign. Observed: from the observed days alone."
        )
    )


def _season_cells(values: pd.Series, dates: pd.Series) -> Sequence[str]:
    season = find_season(mean_cycle(values, dates))
    length = "-" if season.length is None else str(season.length)
    return date_name(season.start), date_name(season.end), length, date_name(season.peak_day), _two(season.peak)
