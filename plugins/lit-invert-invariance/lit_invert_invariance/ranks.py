"""Does the surrogate order days as the tower does?

Whatever the size of its errors, a surrogate that has been fitted should put more uptake on days with more uptake. The record is
inverted once, the observed days are sorted into deciles of the predicted flux, and the deciles' numbers are held against the ranks
of the mean that was observed in them. Deciles average out the noise of single days; the correlation day by day stands beside. Days
of the `fit` and `select` roles count, never a `test` day.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lit_invert import InversionProblem, LevenbergMarquardt, ProblemObjective, Site, Verdict, minimize
from lit_invert.errors import DivergenceError

from .fitting import find_misfit
from .ranking import Series, decile_rank, spearman
from .validator import InvarianceValidator, judge_spearman

#: Fewest observed days that say anything about ranks.
FEWEST_DAYS = 20
_STEPS = 60


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
    rho, rows = decile_rank(predicted[days], observed[days])
    if np.isnan(rho):
        return _advice(f"{name} does not vary over the observed days, so nothing can be ranked.")
    daily, left_out = spearman(predicted[days], observed[days]), int((is_observed & ~is_finite).sum())
    outcome = judge_spearman(rho)
    message = (
        f"deciles of {name} at the {where} rank as what was observed in them with rho = {rho:.3f} (day by day {daily:.2f})"
        + (f"; {_remedy(rho)}." if outcome == "advice" else ".")
    )
    details = {"flux": name, "daily_rho": daily, "left_out": left_out, "table": rows}
    return Verdict("spearman", outcome, message, rho, InvarianceValidator.SPEARMAN_THRESHOLD, details)


def observed_flux(problem: InversionProblem) -> int:
    """Return the place of the flux that is fitted; where no misfit names one, of the flux with most observed days."""
    misfit = find_misfit(problem)
    return int(problem.mask.sum((0, 1)).argmax()) if misfit is None else problem.surrogate.spec.output_names.index(misfit.target)


def simulate_optimum(problem: InversionProblem) -> tuple[Tensor, str]:
    """Invert from the prior and simulate there, (1, T, V) [gC m-2 d-1]; at the `prior` where its loss has no finite gradient."""
    with torch.no_grad():
        prior = problem.space.to_theta(problem.space.priors[:1])
        try:
            solution = minimize(ProblemObjective(problem), prior, LevenbergMarquardt, max_iters=_STEPS)
        except DivergenceError:  # fluxes that are not finite, as `nan` says
            return problem.simulate(prior), "prior"
        return problem.simulate(solution.theta), "optimum"


def _observed(problem: InversionProblem, site: Site, flux: int) -> Series:
    """Return the flux on days of the fit and select roles, (T,) [gC m-2 d-1]; NaN on all others."""
    mask, values = (value[0, :, flux].numpy() for value in (problem.mask, problem.observed.double()))
    observed = np.where(mask, values, np.nan)
    return observed if site.select is None else np.where(site.select.mask[:, flux], site.select.values[:, flux], observed)


def _remedy(rho: float) -> str:
    if rho < 0:
        return "the order is reversed: look at the sign of the observations, or of the flux"
    return "recalibrate the surrogate, or look for what it leaves out"


def _advice(message: str) -> Verdict:
    return Verdict("spearman", "advice", message, None, InvarianceValidator.SPEARMAN_THRESHOLD)
