"""The carbon budget: annual sums, plausibility, and the gap to the process model."""

from __future__ import annotations

from typing import Any

from ...results import Run
from ..html import note, number, table
from ..style import INTERVALS, flux_name, standing
from .scores import RUNS

#: Fluxes that others make up.
_PARTS = {"reco": ("gpp", "nep"), "cue": ("npp", "gpp")}


def annual_sums(run: Run) -> str:
    """Return the sums of every flux, Reco and carbon-use efficiency over each calendar year, with known intervals."""
    runs = _runs(run)
    rows = []
    for year, sums in run.metrics["annual_sums"].items():
        for flux in run.outputs:
            values = [f"{sums[flux][name]:.0f}" if name in sums[flux] else "" for name in runs]
            rows.append([year, sums["days"], flux_name(flux), *values, _interval(run, year, flux), standing(run.fluxes, flux)])
        for name, cells in _derived(sums, list(runs)).items():
            rows.append([year, sums["days"], *cells, _interval(run, year, name), standing(run.fluxes, *_PARTS[name])])
    shown = table(["year", "days", "flux", *runs.values(), "5-95 %", ""], rows, text=(0, 2, len(runs) + 4))
    caption = note(INTERVALS) if (run.uncertainty or {}).get("annual") else ""
    return f"<h3>Annual sums [gC m-2 yr-1]</h3>{shown}{caption}"


def _interval(run: Run, year: str, flux: str) -> str:
    """Return the 5-95 % interval of a year's sum, empty where it is not known."""
    sides = ((run.uncertainty or {}).get("annual") or {}).get(year, {}).get(flux)
    return f"{number(sides['p05'])} to {number(sides['p95'])}" if sides else ""


def _derived(sums: dict[str, Any], runs: list[str]) -> dict[str, list[str]]:
    """Return ecosystem respiration and carbon-use efficiency where their parts are simulated."""
    rows = {}
    if set(_PARTS["reco"]) <= sums.keys():
        rows["reco"] = ["Reco = GPP - NEP", *(f"{sums['gpp'][run] - sums['nep'][run]:.0f}" for run in runs)]
    if set(_PARTS["cue"]) <= sums.keys():
        rows["cue"] = ["CUE = NPP / GPP", *(number(sums["npp"][r] / sums["gpp"][r] if sums["gpp"][r] > 0 else None) for r in runs)]
    return rows


def _runs(run: Run) -> dict[str, str]:
    """Return the runs that there are, without the process model where it was not run."""
    return {name: label for name, label in RUNS.items() if name != "resimulated" or run.metrics["resimulation_gap"] is not None}


def plausibility(run: Run) -> str:
    """Return the mean year beside the bands that ecosystems are known to keep."""
    runs = _runs(run)
    rows = [
        [
            f"{flux_name(band['quantity'])} [{band['unit']}]",
            f"{band['low']:g} to {band['high']:g}",
            *(number(band[name]) + ("" if band["plausible"][name] else " (!)") if name in band else "" for name in runs),
            band["source"],
        ]
        for band in run.metrics["plausibility"]
    ]
    if not rows:
        return "<p class='note'>The record is shorter than a year, so annual plausibility is not judged.</p>"
    return "<h3>Plausibility of the mean year</h3>" + table(
        ["quantity", "plausible", *runs.values(), "limits"], rows, text=(0, 1, len(runs) + 2)
    )


def resimulation_gap(run: Run) -> str:
    """Return how far surrogate and process model are apart at the optimum."""
    gap, accuracy = run.metrics["resimulation_gap"], run.metrics["surrogate"]["accuracy"]
    if gap is None:
        return "<p class='note'>The process model was not run at the optimum, so the surrogate's error there is not known.</p>"
    rows = [[flux_name(flux), number(g["rmse"]), number(g["bias"]), number(accuracy.get(flux))] for flux, g in gap.items()]
    return "<h3>Surrogate minus process model at the optimum [gC m-2 d-1]</h3>" + table(
        ["flux", "RMSE", "bias", "surrogate's RMSE on held-out members"], rows, text=(0,)
    )
