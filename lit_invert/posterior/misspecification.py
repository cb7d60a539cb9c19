r"""Misspecification: signs that no parameters make the surrogate and its noise what made the record.

At the mode the whitened residuals e should be what noise is: standard normal, without memory, season or a driver to follow. Each
test says which of that they are not. Two more ask whether the prior could have made such a record at all: with draws of the prior
predictive, by the share of days in conflict with them, and by the distance

.. math:: d^2 = (o - \bar{y})^T (C + R)^{-1} (o - \bar{y})

of the whole record from their mean, with the covariance C of the simulations and R of the noise. Their p-values come from records
that the prior made. A fit that fails may still be the best there is, but its intervals rest on an assumption that the data deny.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from ..problem import InversionProblem
from .assessments import assess_drivers, assess_memory, assess_normality, assess_outliers, assess_season, assess_size
from .conflict import CONFLICT, conflict_distance
from .noise import whiten
from .target import Mode
from .twins import Twins, make_twins, simulate

#: A test fails when noise alone would look so rarely.
_RARE = 0.01


def find_misspecification(
    problem: InversionProblem, mode: Mode, dates: NDArray[np.datetime64], draws: int, generator: Generator
) -> dict[str, Any]:
    """Test residuals at the mode, and whether the prior could have made the record.

    Args:
        problem: The problem of the fit, of one member.
        mode: Mode of its posterior.
        dates: The T days.
        draws: Number of draws of the prior predictive.
        generator: Source of randomness, on the CPU.

    Returns:
        `tests`, each with `flux`, `test`, `value`, `p`, `verdict` (`pass` or `fail`) and `sentence`, and `verdict`, a sentence;
        ready for JSON.
    """
    records, tests = make_twins(problem, mode, draws, generator), []
    for name in mode.noise:
        residuals, days = whitened_residuals(mode, name)
        found = {
            "size": assess_size(residuals, float(mode.spent[0])),
            "memory": assess_memory(residuals),
            "normality": assess_normality(residuals),
            "season": assess_season(residuals, dates[days.numpy()]),
            "outliers": assess_outliers(residuals),
            **assess_drivers(residuals, _drivers(problem, days)),
            "days in conflict with the prior": assess_conflicts(records, name),
            "distance from the prior": assess_distance(records, mode, name),
        }
        tests += [_judge(name, test, value, p) for test, (value, p) in found.items()]
    failed = [f"{test['flux'].upper()} {test['test']}" for test in tests if test["verdict"] == "fail"]
    return {"tests": tests, "verdict": _in_words(failed, len(tests))}


def whitened_residuals(mode: Mode, flux: str) -> tuple[Tensor, Tensor]:
    """Return the whitened residuals of the observed days at the mode of the one member, (n,) [-], and the places of these days."""
    problem, noise = mode.problem, mode.noise[flux]
    place = problem.surrogate.spec.output_names.index(flux)
    mask = problem.mask[..., place]
    whitened = whiten((mode.simulated - problem.observed)[..., place].double(), mask, noise.deviation, noise.rho)
    days = mask[0].nonzero().flatten()
    return whitened[0, days], days


def _drivers(problem: InversionProblem, days: Tensor) -> dict[str, Tensor]:
    """Return each driver on these days, (n,); none of a network of windows, whose drivers are no series of days."""
    if isinstance(problem.forcing, dict):
        return {}
    names = (variable.name for variable in problem.surrogate.spec.drivers)
    return dict(zip(names, problem.forcing[0, days].double().unbind(-1), strict=True))


def assess_conflicts(records: Twins, flux: str) -> tuple[float, float]:
    """Return the share of observed days in conflict with the prior, and how rarely a record of the prior has as large a share."""
    place = records.problem.surrogate.spec.output_names.index(flux)
    observed = records.problem.mask[0, :, place]
    made = records.observed[..., place].double()[:, observed]
    shares = (((made - made.mean(0)) / made.std(0)).abs() > CONFLICT).double().mean(1)
    share = (conflict_distance(records, flux)[observed].abs() > CONFLICT).double().mean()
    return float(share), _rarity(share, shares)


def assess_distance(records: Twins, mode: Mode, flux: str) -> tuple[float, float]:
    """Return the distance of the record from the prior predictive over its median there, and how rarely the prior is as far.

    One half of the draws tells mean and covariance; the other, which did not, is what the record is compared with.
    """
    problem, noise = records.problem, mode.noise[flux]
    place = problem.surrogate.spec.output_names.index(flux)
    known, others = simulate(problem, records.truth)[..., place].double().tensor_split(2)[0], records.observed[..., place]
    compared = torch.cat([problem.observed[..., place], others.tensor_split(2)[1]]).double()
    mask = problem.mask[..., place].expand(len(compared), -1)

    def whitened(values: Tensor) -> Tensor:
        return whiten(values - known.mean(0), mask[: len(values)], noise.deviation, noise.rho.expand(len(values)))

    spread = whitened(known[: len(compared)])
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


def _judge(flux: str, test: str, value: float, p: float) -> dict[str, Any]:
    verdict = "fail" if p < _RARE else "pass"
    sentence = f"{flux.upper()}, {test}: {value:.3g}; chance alone leads as far in {_percent(p)} of cases."
    return {"flux": flux, "test": test, "value": value, "p": p, "verdict": verdict, "sentence": sentence}


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
