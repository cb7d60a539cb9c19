"""Does the surrogate order days as the tower does?

Whatever the size of its errors, a surrogate that has been fitted should put more uptake on days with more uptake. The record is
inverted once, the observed days are sorted into deciles of the predicted flux, and the deciles' numbers are held against the ranks
of the mean that was observed in them. Deciles average out the noise of single days; the correlation day by day stands beside. Days
of the `fit` and `select` roles count, never a `test` day.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from lit_invert import InversionProblem, LevenbergMarquardt, ProblemObjective, Site, Verdict, minimize
from lit_invert.errors import DivergenceError
from lit_invert.metrics import pearson_r

from .validator import InvarianceValidator, judge_spearman

#: Fewest observed days that say anything about ranks.
FEWEST_DAYS = 20
_DECILES = 10
_STEPS = 60

Series = NDArray[np.float64]


def check_spearman(problem: InversionProblem, site: Site) -> Verdict:
    """Ask whether the deciles of the predicted flux rank as what was observed in them: advice at a correlation of 0.90 or less."""
    flux = observed_flux(problem)
    name = problem.surrogate.spec.output_names[flux]
    simulated, where = simulate_optimum(problem)
    predicted, observed = simulated[0, :, flux].double().numpy(), _observed(problem, site, flux)
    is_observed, is_finite = np.isfinite(observed), np.isfinite(predicted)
    days = is_observed & is_finite
    if days.sum() < FEWEST_DAYS:
        return _advice(f"{name} is observed and simulated on {int(days.sum())} days, ranks need {FEWEST_DAYS}; not measured.")
    rows = deciles(predicted[days], observed[days])
    rho = spearman([row["decile"] for row in rows], [row["observed"] for row in rows])
    if np.isnan(rho):
        return _advice(f"{name} does not vary over the observed days, so nothing can be ranked.")
    daily, left_out = spearman(predicted[days], observed[days]), int((is_observed & ~is_finite).sum())
    outcome = judge_spearman(rho)
    message = (
        f"deciles of {name} at the {where} rank as what was observed in them with rho = {rho:.3f} (day by day {daily:.2f})"
        + ("; recalibrate the surrogate, or look for what it leaves out." if outcome == "advice" else ".")
    )
    details = {"flux": name, "daily_rho": daily, "left_out": left_out, "table": rows}
    return Verdict("spearman", outcome, message, rho, InvarianceValidator.SPEARMAN_THRESHOLD, details)


def observed_flux(problem: InversionProblem) -> int:
    """Return the place of the flux with most observed days."""
    return int(problem.mask.sum((0, 1)).argmax())


def simulate_optimum(problem: InversionProblem) -> tuple[Tensor, str]:
    """Invert from the prior and simulate there, (1, T, V) [gC m-2 d-1]; at the `prior` where its loss has no finite gradient."""
    with torch.no_grad():
        prior = problem.space.to_theta(problem.space.priors[:1])
        try:
            solution = minimize(ProblemObjective(problem), prior, LevenbergMarquardt, max_iters=_STEPS)
        except DivergenceError:  # fluxes that are not finite, as `nan` says
            return problem.simulate(prior), "prior"
        return problem.simulate(solution.theta), "optimum"


def deciles(predicted: Series, observed: Series) -> list[dict[str, float]]:
    """Sort days into deciles of what is predicted, and return the means of each that has a day.

    Args:
        predicted: An (n,)-dim array; equal values come into the same decile.
        observed: An array of the same shape.

    Returns:
        Decile from 1 to 10, mean predicted, mean observed, and number of days.

    Example:
        >>> [row["observed"] for row in deciles(np.arange(20.0), np.arange(20.0))][:3]
        [0.5, 2.5, 4.5]
    """
    number = np.ceil(_DECILES * (rankdata(predicted) - 0.5) / len(predicted)).astype(int)
    return [
        {
            "decile": decile,
            "predicted": predicted[number == decile].mean().item(),
            "observed": observed[number == decile].mean().item(),
            "days": int((number == decile).sum()),
        }
        for decile in range(1, _DECILES + 1)
        if (number == decile).any()
    ]


def spearman(first: Series | list[float], second: Series | list[float]) -> float:
    """Return the correlation of the ranks of both, (n,) each; NaN when either does not vary.

    Example:
        >>> spearman([1.0, 2.0, 3.0], [1.0, 8.0, 27.0])
        1.0
    """
    return pearson_r(rankdata(first), rankdata(second))


def _observed(problem: InversionProblem, site: Site, flux: int) -> Series:
    """Return the flux on days of the fit and select roles, (T,) [gC m-2 d-1]; NaN on all others."""
    mask, values = (value[0, :, flux].numpy() for value in (problem.mask, problem.observed.double()))
    observed = np.where(mask, values, np.nan)
    return observed if site.select is None else np.where(site.select.mask[:, flux], site.select.values[:, flux], observed)


def _advice(message: str) -> Verdict:
    return Verdict("spearman", "advice", message, None, InvarianceValidator.SPEARMAN_THRESHOLD)
