"""What a reader is told of an uncertainty in a few numbers and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..losses import LossTerm, Misfit, Prior
from ..metrics import flux_name
from .bands import coverage
from .noise import Noise, derived_lambda
from .target import Mode

#: Share of observations that their band should hold.
_EXPECTED = 0.9
#: Standard deviations of a binomial share beyond which a coverage is called wrong.
_FAR = 2.0
#: Difference of the ends of two intervals that is told, as a share of the first one's width.
_BENT = 0.5
#: Share of days or years beyond which an optimum outside its band is told.
_APART = 0.2
_METHODS = {
    "laplace": "a Laplace approximation at the mode, cut to the bounds; bands of fluxes follow its linearisation",
    "population": "a population of draws that moves under the posterior's own density",
    "rml": "randomised maximum likelihood",
    "nuts": "no-U-turn sampling",
}


def summarise(
    posterior: pd.DataFrame, bands: pd.DataFrame, report: Mapping[str, Any], fluxes: pd.DataFrame, target: str
) -> dict[str, Any]:
    """Return what metrics.json says of the uncertainty.

    Args:
        posterior: From :func:`lit_invert.posterior.tables.posterior_table`.
        bands: From :func:`lit_invert.posterior.bands.tabulate_bands`.
        report: Content of uncertainty.json.
        fluxes: As `flux_table` returns it, with the test days opened.
        target: The flux that was fitted.
    """
    names = posterior.groupby("class")["name"].apply(list).to_dict()
    return {
        "method": report["method"],
        "rank": report["rank"],
        "free": int((~posterior["fixed"]).sum()),
        "determined": names.get("determined", []),
        "classes": {kind: len(found) for kind, found in names.items()},
        "n_eff": report["noise"][target]["n_eff"],
        "lambda_prior": report["lambda_prior"],
        "coverage": {role: coverage(bands, fluxes, target, role) for role in ("fit", "select", "test")},
    }


def advise_on_coverage(summary: Mapping[str, Any]) -> list[str]:
    """Say where far more or far fewer test days than expected lie inside the band; nothing where chance would do.

    Example:
        >>> fit, test = {"n": 200, "share": 0.9}, {"n": 100, "share": 0.5}
        >>> advise_on_coverage({"n_eff": 50.0, "coverage": {"fit": fit, "test": test}})
        ['Of the test days, 50 % lie in the band that should hold 90 %: the uncertainty is understated there.']
        >>> advise_on_coverage({"n_eff": 50.0, "coverage": {"fit": fit, "test": test | {"share": 0.85}}})
        []
    """
    fit, test = (summary["coverage"][role] for role in ("fit", "test"))
    if not test["n"] or not fit["n"]:
        return []
    independent = max(1.0, test["n"] * summary["n_eff"] / fit["n"])
    spread = math.sqrt(_EXPECTED * (1 - _EXPECTED) / independent)
    if abs(test["share"] - _EXPECTED) <= _FAR * spread:
        return []
    verdict = "understated" if test["share"] < _EXPECTED else "overstated"
    return [
        f"Of the test days, {100 * test['share']:.0f} % lie in the band that should hold {100 * _EXPECTED:.0f} %: "
        f"the uncertainty is {verdict} there."
    ]


def advise_on_optimum(
    bands: pd.DataFrame, report: Mapping[str, Any], fluxes: pd.DataFrame, annual_sums: Mapping[str, Any], target: str
) -> list[str]:
    """Say where the fit's optimum is not what the posterior's intervals are around.

    Args:
        bands: From :func:`lit_invert.posterior.bands.tabulate_bands`.
        report: Content of uncertainty.json.
        fluxes: As `flux_table` returns it, of the same days.
        annual_sums: As metrics.json has them.
        target: The flux that was fitted.

    Returns:
        A sentence where more than a fifth of the days of the target, or of the years of GPP or Rh, lie outside 5-95 %.
    """
    days = bands[f"{target}_p05"].notna()
    low, high = bands.loc[days, f"{target}_p05"], bands.loc[days, f"{target}_p95"]
    inside = fluxes.loc[days, f"{target}_optimum"].between(low, high)
    outside = {f"{flux_name(target)} on {{:.0f}} % of the days": 1 - inside.mean()}
    for name in ("gpp", "rh"):
        ends = {year: known[name] for year, known in report["annual"].items() if name in known and year in annual_sums}
        missed = [not own["p05"] <= annual_sums[year][name]["optimum"] <= own["p95"] for year, own in ends.items()]
        outside[f"annual {flux_name(name)} in {{:.0f}} % of the years"] = sum(missed) / max(len(missed), 1)
    found = [what.format(100 * share) for what, share in outside.items() if share > _APART]
    if not found:
        return []
    weight = report["lambda_prior"]
    remedy = "" if weight["used_unit"] == weight["derived_unit"] else " `inversion.lambda_prior: derived` gives the two one prior."
    return [
        f"The fit's optimum is not where the posterior is: it lies outside the 5-95 % of {', '.join(found)}. "
        f"Intervals are around the posterior's mode.{remedy}"
    ]


def describe_noise(noise: Noise) -> dict[str, float]:
    """Return the numbers of the noise of one member's flux."""
    values = {name: float(getattr(noise, name)[0]) for name in ("sigma", "share", "rho")}
    return {**values, "n": int(noise.n[0]), "n_eff": float(noise.n_eff[0])}


def describe_lambda(noise: Noise, used: float, unit: str) -> dict[str, Any]:
    """Return the prior's weight that the fit used, and the one that its standard deviation and this noise imply.

    Args:
        noise: Noise of the flux that was fitted, of one member.
        used: The weight that the fit used.
        unit: What a distance of one from the prior means to that weight: `scaled space` or `prior sd`.
    """
    derived = derived_lambda(float(noise.variance[0]), float(noise.n_eff[0]))
    formula = "sigma^2 / n_eff, for a prior in units of its standard deviation"
    return {"used": used, "used_unit": unit, "derived": derived, "derived_unit": "prior sd", "formula": formula}


def describe_bending(linear: Tensor, simulated: Tensor, flux: str) -> list[str]:
    """Say where the surrogate bends so much within the posterior that simulated draws leave the linearised bands.

    Args:
        linear: One flux of M draws along the linearisation at the mode, (M, T) [gC m-2 d-1].
        simulated: The same of simulated draws, (m, T).
        flux: Its name.

    Returns:
        A sentence where the ends of the 5-95 % interval of the flux's mean differ, both together, by half its width or more.
    """
    levels = torch.tensor([0.05, 0.95], dtype=torch.float64)
    along, beside = (torch.quantile(values.double().mean(1), levels) for values in (linear, simulated))
    if (along - beside).abs().sum() < _BENT * (along[1] - along[0]):
        return []
    ends = [f"{low:.2f} to {high:.2f}" for low, high in (beside.tolist(), along.tolist())]
    return [
        f"The intervals of single parameters and their samples do not jointly reproduce the data: the surrogate bends within the "
        f"posterior. Simulated one by one, the draws of posterior_samples.csv give a mean {flux_name(flux)} of {ends[0]} "
        f"gC m-2 d-1 (5-95 %), the bands {ends[1]}. Use `uncertainty.method: population`."
    ]


def describe_meaning(mode: Mode, method: str) -> list[str]:
    """Say in sentences how the numbers are meant."""
    unseen = [flux_name(name) for name in mode.problem.surrogate.spec.output_names if name not in mode.noise]
    notes = [
        f"Intervals are from {_METHODS[method]}; the prior is Gaussian in the surrogate's scaled space, cut to the bounds.",
        "The estimated noise holds the surrogate's own error, which the bands therefore do not add again.",
    ]
    if unseen:
        seen = ", ".join(map(flux_name, mode.noise))
        notes.append(f"{', '.join(unseen)}: not observed: constrained through {seen} and the prior alone.")
    return notes


def describe_replaced(terms: Iterable[LossTerm]) -> list[str]:
    """Say which loss terms of the fit the posterior does not have: a misfit or prior of the user's own.

    Example:
        >>> class Mine(Prior): ...
        >>> describe_replaced([Misfit("nep"), Mine()])
        ["The posterior has a Gaussian prior in place of the fit's own term 'prior', whose class is not lit-invert's."]
    """
    ours = {Misfit.name: (Misfit, "likelihood"), Prior.name: (Prior, "prior")}
    own = [term.name for term in terms if term.name in ours and type(term) is not ours[term.name][0]]
    return [
        f"The posterior has a Gaussian {ours[name][1]} in place of the fit's own term {name!r}, whose class is not lit-invert's."
        for name in own
    ]
