"""Questions asked before the first iteration: is the surrogate used where it was trained, and can it be inverted from the prior?

A surrogate answers any question, also those it was never trained for. Each check looks at one way in which its answer could be
worthless, and says so with a number: `fail` stops the inversion, `advice` is printed and stored. A check sees the forcing and the
`fit` days, never a `test` day.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .errors import first_names
from .extensions import Check, Verdict
from .problem import InversionProblem
from .sites import Site
from .surrogates.base import Variable

#: Distance of a prior from the trained range, as a share of that range, above which the surrogate extrapolates.
PRIOR_LIMIT = 0.1
#: Shares of days with a driver outside its trained range: a few extreme days happen, many mean another climate or a wrong unit.
FORCING_ADVICE, FORCING_LIMIT = 0.01, 0.2
#: Mean gap of NEP = NPP - Rh, as a share of the mean of both fluxes.
BALANCE_ADVICE = 0.01


def check_prior(problem: InversionProblem, site: Site) -> Verdict:
    """Ask whether the prior lies in the range of parameters that the surrogate was trained on.

    Advice where it does not; failure where it is farther away than a tenth of the range (of its logarithm for log-scaled ones).
    """
    statics = problem.surrogate.spec.statics
    away = {v.name: _distance(v, value) for v, value in zip(statics, problem.space.priors[0].tolist(), strict=True)}
    outside = [name for name, distance in away.items() if distance > 0]
    value = max(away.values())
    if not outside:
        return Verdict("prior", "pass", "every prior is inside the range that the surrogate was trained on.", value, PRIOR_LIMIT)
    message = (
        f"the prior of {first_names(outside)} is outside the range that the surrogate was trained on, by up to {value:.0%} of it; "
        "expect wrong fluxes there."
    )
    return Verdict("prior", "fail" if value > PRIOR_LIMIT else "advice", message, value, PRIOR_LIMIT)


def check_forcing(problem: InversionProblem, site: Site) -> Verdict:
    """Ask whether the weather is that of the training.

    Advice above 1 % of days with a driver outside its trained range; failure above 20 %.
    """
    variables = problem.surrogate.spec.drivers
    shares = {v.name: float(_is_outside(v, site.forcing[:, i]).mean()) for i, v in enumerate(variables)}
    driver, share = max(shares.items(), key=lambda item: item[1])
    outcome: Literal["pass", "advice", "fail"] = "pass"
    if share > FORCING_ADVICE:
        outcome = "fail" if share > FORCING_LIMIT else "advice"
    outside = [name for name, value in shares.items() if value > FORCING_ADVICE]
    others = [name for name in outside if name != driver]
    message = (
        f"driver {driver!r} is outside the range that the surrogate was trained on for {share:.1%} of days"
        + (
            (f", and {first_names(others)} for fewer" if others else "") + "; check its unit, or expect wrong fluxes."
            if outside
            else "."
        )
        if share > 0
        else "every driver is inside the range that the surrogate was trained on."
    )
    return Verdict("forcing", outcome, message, share, FORCING_ADVICE if outcome != "fail" else FORCING_LIMIT)


def check_finite(problem: InversionProblem, site: Site) -> Verdict:
    """Ask whether every simulated flux at the prior is a finite number; failure where one is not."""
    with torch.no_grad():
        simulated = problem.simulate(_prior(problem))
    bad = int((~torch.isfinite(simulated)).sum())
    message = (
        f"{bad} of {simulated.numel()} simulated values at the prior are not finite; check the forcing and the surrogate's scaling."
        if bad
        else "every simulated flux at the prior is finite."
    )
    return Verdict("finite", "fail" if bad else "pass", message, float(bad), 0.0)


def check_gradient(problem: InversionProblem, site: Site) -> Verdict:
    """Ask whether the loss at the prior has a finite gradient that is not zero throughout; failure where it has not."""
    theta = _prior(problem).requires_grad_()
    (gradient,) = torch.autograd.grad(problem(theta).total.sum(), theta)
    size = gradient.norm().item()
    if not math.isfinite(size):
        names = [n for n, value in zip(problem.space.table.names, gradient[0].tolist(), strict=True) if not math.isfinite(value)]
        message = f"the gradient of the loss at the prior is not finite for {first_names(names)}; no solver can start there."
    elif size == 0:
        message = "the gradient of the loss at the prior is zero for every parameter; nothing would move."
    else:
        message = f"the gradient of the loss at the prior is finite, with norm {size:.3g}."
    return Verdict("gradient", "pass" if 0 < size < math.inf else "fail", message, size, 0.0)


def check_balance(problem: InversionProblem, site: Site) -> Verdict:
    """Ask whether the surrogate's carbon budget closes at the prior, NEP = NPP - Rh; advice where the mean gap is above 1 %."""
    names = problem.surrogate.spec.output_names
    if not {"npp", "nep", "rh"} <= set(names):
        return Verdict("balance", "pass", "the surrogate does not give all of npp, nep and rh, so no budget can be closed.")
    with torch.no_grad():
        simulated = problem.simulate(_prior(problem)).double()
    npp, nep, rh = (simulated[..., names.index(name)] for name in ("npp", "nep", "rh"))
    turnover = (npp.abs() + rh.abs()).mean().item()
    gap = (nep - (npp - rh)).abs().mean().item() / max(turnover, torch.finfo(torch.float64).tiny)
    message = f"NEP differs from NPP - Rh by {gap:.2%} of the fluxes on average" + (
        "; fitting one flux does not fit the others." if gap > BALANCE_ADVICE else "."
    )
    return Verdict("balance", "advice" if gap > BALANCE_ADVICE else "pass", message, gap, BALANCE_ADVICE)


#: The checks of this package.
CHECKS: list[Check] = [
    Check("balance", check_balance),
    Check("finite", check_finite),
    Check("forcing", check_forcing),
    Check("gradient", check_gradient),
    Check("prior", check_prior),
]


def _prior(problem: InversionProblem) -> Tensor:
    return problem.space.to_theta(problem.space.priors).detach()


def _distance(variable: Variable, value: float) -> float:
    """Return how far a value is outside the trained range, as a share of the range; 0 inside, or where no range is known."""
    low, high = variable.minimum, variable.maximum
    if low is None or high is None or low <= value <= high:
        return 0.0
    if variable.log and low > 0 and value > 0:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return max(low - value, value - high) / (high - low) if high > low else math.inf


def _is_outside(variable: Variable, values: np.ndarray) -> np.ndarray:
    low = -math.inf if variable.minimum is None else variable.minimum
    high = math.inf if variable.maximum is None else variable.maximum
    return (values < low) | (values > high)
