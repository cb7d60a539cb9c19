"""What a reader is told of an uncertainty in a few numbers and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from .bands import coverage
from .noise import Noise, derived_lambda
from .target import Mode

#: Share of observations that their band should hold.
_EXPECTED = 0.9
#: Standard deviations of a binomial share beyond which a coverage is called wrong.
_FAR = 2.0
_METHODS = {
    "laplace": "a Laplace approximation at the mode, cut to the bounds; bands of fluxes follow its linearisation",
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


def describe_noise(noise: Noise) -> dict[str, float]:
    """Return the numbers of the noise of one member's flux."""
    values = {name: float(getattr(noise, name)[0]) for name in ("sigma", "share", "rho")}
    return {**values, "n": int(noise.n[0]), "n_eff": float(noise.n_eff[0])}


def describe_lambda(noise: Noise, used: float) -> dict[str, Any]:
    """Return the prior's weight that the fit used, and the one that its standard deviation and this noise imply."""
    derived = derived_lambda(float(noise.variance[0]), float(noise.n_eff[0]))
    return {"used": used, "derived": derived, "formula": "sigma^2 / n_eff, for a prior in units of its standard deviation"}


def describe_meaning(mode: Mode, method: str) -> list[str]:
    """Say in sentences how the numbers are meant."""
    unseen = [name.upper() for name in mode.problem.surrogate.spec.output_names if name not in mode.noise]
    notes = [
        f"Intervals are from {_METHODS[method]}; the prior is Gaussian in the surrogate's scaled space, cut to the bounds.",
        "The estimated noise holds the surrogate's own error, which the bands therefore do not add again.",
    ]
    if unseen:
        notes.append(f"{', '.join(unseen)}: not constrained by these data; their bands are what parameters and prior allow.")
    return notes
