r"""Misspecification: signs that no parameters make the surrogate and its noise what made the record.

At the mode the whitened residuals e should be what noise is: standard normal, without memory, season or a driver to follow. Each
test says which of that they are not. Two more ask whether the prior could have made such a record at all: with draws of the prior
predictive, by the share of days in conflict with them, and by the distance

.. math:: d^2 = (o - \bar{y})^T (C + R)^{-1} (o - \bar{y})

of the whole record from their mean, with the covariance C of the simulations and R of the noise. Their p-values come from records
that the prior made. All p-values are corrected for their number by Holm's method. How large the residuals are is no test, since
their noise was estimated from them. A fit that fails may still be the best there is, but its intervals rest on an assumption that
the data deny.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..metrics import flux_name
from ..problem import InversionProblem
from .assessments import assess_drivers, assess_memory, assess_normality, assess_outliers, assess_season
from .chance import correct_for_many
from .conflict import CONFLICT, conflict_distance, own_distances
from .noise import whiten
from .target import Mode
from .twins import Twins

#: Chance with which one test or more fails though nothing is wrong.
_RARE = 0.05
#: Share of the draws of the prior predictive that tell its mean and covariance.
_KNOWN = 0.25
#: Verdict on a test that has no p-value.
UNTESTED = "not tested"


def find_misspecification(records: Twins, mode: Mode, dates: NDArray[np.datetime64]) -> dict[str, Any]:
    """Test residuals at the mode, and whether the prior could have made the record.

    Args:
        records: Draws of the prior predictive; their problem is that of the fit, of one member.
        mode: Mode of its posterior.
        dates: The T days.

    Returns:
        `tests`, each with `flux`, `test`, `value`, `p`, `p_corrected`, `verdict` (`pass`, `fail`, or `not tested` where there is no
        p-value) and `sentence`, and `verdict`, a sentence.
    """
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for name in mode.noise:
        residuals, days = whitened_residuals(mode, name)
        own = {
            "memory": assess_memory(residuals),
            "normality": assess_normality(residuals),
            "season": assess_season(residuals, dates[days.numpy()]),
            "outliers": assess_outliers(residuals),
            **assess_drivers(residuals, _drivers(records.problem, days)),
            "days in conflict with the prior": assess_conflicts(records, name),
            "distance from the prior": assess_distance(records, mode, name),
        }
        found |= {(name, test): result for test, result in own.items()}
    corrected = _correct([p for _, p in found.values()])
    tests = [_judge(*key, *result, p) for (key, result), p in zip(found.items(), corrected, strict=True)]
    failed = [f"{flux_name(test['flux'])} {test['test']}" for test in tests if test["verdict"] == "fail"]
    return {"tests": tests, "verdict": _in_words(failed, sum(test["verdict"] != UNTESTED for test in tests))}


def whitened_residuals(mode: Mode, flux: str) -> tuple[Tensor, Tensor]:
    """Return the whitened residuals of the observed days at the mode of the one member, (n,) [-], and the places of these days."""
    problem, noise = mode.problem, mode.noise[flux]
    place = problem.surrogate.spec.output_names.index(flux)
    mask = problem.mask[..., place]
    whitened = whiten((mode.simulated - problem.observed)[..., place].double(), mask, noise.deviation, noise.rho)
    days = mask[0].nonzero().flatten()
    return whitened[0, days], days


def _drivers(problem: InversionProblem, days: Tensor) -> dict[str, Tensor]:
    """Return each driver that varies on these days, (n,); none of a network of windows, whose drivers are no series of days."""
    if isinstance(problem.forcing, dict):
        return {}
    names = (variable.name for variable in problem.surrogate.spec.drivers)
    drivers = zip(names, problem.forcing[0, days].double().unbind(-1), strict=True)
    return {name: values for name, values in drivers if bool((values != values[:1]).any())}


def assess_conflicts(records: Twins, flux: str) -> tuple[float, float]:
    """Return the share of observed days in conflict with the prior, and how rarely a record of the prior has as large a share."""
    observed = records.problem.mask[0, :, records.problem.surrogate.spec.output_names.index(flux)]
    shares = (own_distances(records, flux).abs() > CONFLICT).double().mean(1)
    share = (conflict_distance(records, flux)[observed].abs() > CONFLICT).double().mean()
    return float(share), _rarity(share, shares)


def assess_distance(records: Twins, mode: Mode, flux: str) -> tuple[float, float]:
    """Return the distance of the record from the prior predictive over its median there, and how rarely the prior is as far.

    A quarter of the draws tells mean and covariance; the others, which did not, are what the record is compared with.
    """
    problem, noise = records.problem, mode.noise[flux]
    place = problem.surrogate.spec.output_names.index(flux)
    few = int(_KNOWN * len(records.truth))
    known = records.simulated[:few, :, place].double()
    compared = torch.cat([problem.observed[..., place], records.observed[few:, :, place]]).double()
    mask = problem.mask[..., place].expand(len(compared), -1)

    def whitened(values: Tensor) -> Tensor:
        return whiten(values - known.mean(0), mask[: len(values)], noise.deviation, noise.rho.expand(len(values)))

    spread = whitened(known)
    distances = _distance(whitened(compared), spread / (len(spread) - 1) ** 0.5)
    return float(distances[0] / distances[1:].median()), _rarity(distances[0], distances[1:])


def _distance(values: Tensor, root: Tensor) -> Tensor:
    """Return :math:`v^T (I + A^T A)^{-1} v` of each value, (N, T), with the root A, (D, T), of a covariance; by Woodbury."""
    along: Tensor = values @ root.T
    inner = torch.eye(len(root), dtype=root.dtype) + root @ root.T
    solved: Tensor = torch.linalg.solve(inner, along.T).T
    return values.square().sum(1) - (along * solved).sum(1)


def _rarity(value: Tensor, others: Tensor) -> float:
    return float((1 + (others >= value).sum()) / (1 + len(others)))


def _correct(p_values: list[float]) -> list[float]:
    """Correct p-values for the number of those that there are; NaN stays.

    Example:
        >>> _correct([0.01, math.nan, 0.5])
        [0.02, nan, 0.5]
    """
    corrected = iter(correct_for_many([p for p in p_values if not math.isnan(p)]))
    return [p if math.isnan(p) else next(corrected) for p in p_values]


def _judge(flux: str, test: str, value: float, p: float, corrected: float) -> dict[str, Any]:
    verdict = UNTESTED if math.isnan(p) else "fail" if corrected < _RARE else "pass"
    said = "not tested, for want of days" if math.isnan(p) else f"{value:.3g}; chance alone leads as far in {_percent(p)} of cases"
    sentence = f"{flux_name(flux)}, {test}: {said}."
    numbers = {"value": value, "p": p, "p_corrected": corrected}
    return {"flux": flux, "test": test, **numbers, "verdict": verdict, "sentence": sentence}


def _percent(p: float) -> str:
    """Return a p-value in words.

    Example:
        >>> _percent(0.5), _percent(0.012), _percent(1e-9)
        ('50 %', '1.2 %', 'less than 0.1 %')
    """
    percent = 100 * p
    return "less than 0.1 %" if percent < 0.1 else f"{percent:.1f} %" if percent < 10 else f"{percent:.0f} %"


def _in_words(failed: list[str], count: int) -> str:
    if not failed:
        return f"None of {count} tests speaks against surrogate, noise and prior."
    against = f"{len(failed)} of {count} tests speak against surrogate, noise or prior: {', '.join(failed)}."
    return f"{against} Read the intervals with care."
