"""Net expectancy: whether the annual mean of the target flux survives a change of scale.

Small changes that every window tolerates can still add up over a year, and NEP is the small difference of two large fluxes. So the
annual mean is compared at the prior under every change of unit, and at the optimum of the whole record, found anew in other units.
A change of unit that predictions do not bear is the business of `retention`, which names it: it is shown, and does not count here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lit_invert import InversionProblem, RunInfo, Verdict
from lit_invert.sites import Site

from .fitting import find_misfit, fit_members
from .predictions import try_predictions
from .settings import settings_of
from .units import Rescaling, rescalings_of, summarize
from .validator import InvarianceValidator, judge_net_expectancy, net_expectancy_change
from .windows import broken_transforms, cut_windows

DAYS_A_YEAR = 365.25
#: Change of an annual mean that nobody would notice [gC m-2 yr-1].
SMALL_CHANGE = 0.01


def check_expectancy(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict:
    """Ask whether the annual mean of the target flux changes by less than 5 % under every change of scale.

    Advice where it could not be asked: no change of scale leaves predictions in place, or no simulated value is finite.
    """
    settings, target = settings_of(run), _target_of(problem)
    broken = broken_transforms(try_predictions(problem, cut_windows(problem.days[0], settings.window_days), settings))
    rescalings = rescalings_of(problem)
    held = summarize([rescaling for rescaling in rescalings if rescaling.name not in broken])
    prior = problem.space.to_theta(problem.space.priors)
    optimum, _ = fit_members(problem, prior)
    rows = [_row(r, "prior", _means(problem, prior, r.apply(problem), prior, target)) for r in rescalings]
    for rescaling in held:
        rescaled = rescaling.apply(problem)
        rows.append(_row(rescaling, "optimum", _means(problem, optimum, rescaled, fit_members(rescaled, prior)[0], target)))
    return judge([row for row in rows if row], broken, target)


def annual_mean(flux: Tensor, days: Tensor) -> float:
    """Return the annual sum that a daily flux comes to.

    Args:
        flux: A (T,)-dim tensor [gC m-2 d-1].
        days: True on days that count, (T,).

    Returns:
        The mean day times 365.25 [gC m-2 yr-1]; NaN without any day.

    Example:
        >>> annual_mean(torch.tensor([9.0, 1.0, 3.0]), torch.tensor([False, True, True]))
        730.5
    """
    return float(flux[days].double().mean()) * DAYS_A_YEAR


@torch.no_grad()
def _means(problem: InversionProblem, theta: Tensor, rescaled: InversionProblem, other: Tensor, target: str) -> tuple[float, float]:
    """Return the annual means of a problem and of the rescaled one, over the days that are finite in both."""
    place = problem.surrogate.spec.output_names.index(target)
    before, after = (p.simulate(at)[0, :, place] for p, at in ((problem, theta), (rescaled, other)))
    days = problem.days[0] & before.isfinite() & after.isfinite()
    return annual_mean(before, days), annual_mean(after, days)


def _row(rescaling: Rescaling, at: str, means: tuple[float, float]) -> dict[str, Any]:
    """Return a row of the table; an empty one where nothing is finite."""
    original, scaled = means
    if math.isnan(original):
        return {}
    return {
        "transform": rescaling.name,
        "at": at,
        "original [gC m-2 yr-1]": original,
        "scaled [gC m-2 yr-1]": scaled,
        "change [%]": net_expectancy_change(original, scaled),
    }


def judge(rows: list[dict[str, Any]], broken: set[str], target: str) -> Verdict:
    """Judge the largest change of the rows, but for those of broken transforms."""
    threshold = InvarianceValidator.NETEXPECTANCY_DEGRADATION_THRESHOLD
    details = {"table": rows, "left out": sorted(broken)}
    counted = [row for row in rows if row["transform"] not in broken]
    if not counted:
        message = f"no change of scale left the predictions of {target!r} in place, so its annual mean was not compared."
        return Verdict("net_expectancy", "advice", message, None, threshold, details)
    worst = max(counted, key=lambda row: float(row["change [%]"]))
    value = worst["change [%]"]
    outcome = judge_net_expectancy(value)
    message = (
        f"the annual mean of {target!r} at the {worst['at']} changes by {value:.2g} % with {worst['transform']!r}, "
        f"from {worst['original [gC m-2 yr-1]']:.4g} to {worst['scaled [gC m-2 yr-1]']:.4g} gC m-2 yr-1"
    )
    change = abs(worst["original [gC m-2 yr-1]"] - worst["scaled [gC m-2 yr-1]"])
    if outcome == "fail":
        message += f": a change of {change:.1g} of a mean near zero" if change < SMALL_CHANGE else ""
        message = f"scale invariance violated: {message}"
    return Verdict("net_expectancy", outcome, f"{message}.", value, threshold, details)


def _target_of(problem: InversionProblem) -> str:
    """Return NEP where it is simulated, else the flux that is fitted, else the first one."""
    misfit, outputs = find_misfit(problem), problem.surrogate.spec.output_names
    if "nep" in outputs:
        return "nep"
    return outputs[0] if misfit is None else misfit.target
