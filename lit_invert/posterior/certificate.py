"""The certificate of recoverability: which parameters an inversion of this site can find, before the real one is believed.

From twin experiments (:mod:`lit_invert.posterior.twins`) each free parameter gets a verdict:

- `biased or over-confident`: its 90 % interval holds the truth in fewer twins than chance allows.
- `recoverable`: its interval keeps its promise, and the error of the estimate is at most half of the error without data.
- `partly recoverable`: the same, and at most three quarters. Most of these are found well in some twins and not at all in others: a
  threshold temperature, say, matters only where it lies among the temperatures of the site.
- `not identifiable`: its interval keeps its promise, but the data hardly narrow it down.

Intervals that hold the truth more often than they promise are cautious, which is no fault here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from ..metrics import flux_name
from ..problem import InversionProblem
from .calibration import JUDGED, inside
from .chance import RARE, binomial_limits
from .target import to_theta
from .twins import Estimates

RECOVERABLE, PARTLY, UNIDENTIFIABLE = "recoverable", "partly recoverable", "not identifiable"
OVERCONFIDENT = "biased or over-confident"
#: Largest error of an estimate that counts as recovered, and as partly recovered, as a share of the error without data.
_RECOVERED, _PARTLY_RECOVERED = 0.5, 0.75


@dataclass(frozen=True)
class Certificate:
    """What twin experiments say of each free parameter."""

    table: pd.DataFrame
    """A row a free parameter: `name`, `unit`; `bias`, `spread`, `rmse` of the posterior mean, `rmse_of_mode` and `rmse_of_prior` in
    prior standard deviations; `bias_physical`, `rmse_physical`; `coverage_50`, `coverage_90` [-]; `sd_reduction_percent`;
    `determined_share` of the twins; `verdict`."""
    cases: pd.DataFrame
    """A row a twin and parameter, in physical units: `twin`, `name`, `truth`, `mode`, `mean`, `p05`, `p95`."""
    sentence: str


def certify(problem: InversionProblem, found: Estimates, target: str) -> Certificate:
    """Judge each free parameter by what was found of the twins.

    Args:
        problem: The problem of the fit.
        found: What was found.
        target: The flux that was fitted.
    """
    table, free = problem.space.table, found.free.tolist()
    cases = _tabulate_cases(problem, found)
    means, truth = found.draws[..., found.free].mean(1), found.truth[:, found.free]
    error, without = means - truth, truth - truth.mean(0)
    held = {level: inside(truth, found.draws[..., found.free], level).double().mean(0) for level in (0.5, JUDGED)}
    rmse, rmse_of_prior = (values.square().mean(0).sqrt() for values in (error, without))
    misses = cases["mean"] - cases["truth"]
    physical = misses.groupby(cases["name"], sort=False)
    lowest, _ = binomial_limits(len(truth), JUDGED, RARE / len(free))  # one alarm too many in a hundred certificates
    rows = {
        "name": [table.names[i] for i in free],
        "unit": [table.units[i] for i in free],
        "bias": error.mean(0),
        "spread": error.std(0),
        "rmse": rmse,
        "rmse_of_mode": (found.mode[:, found.free] - truth).square().mean(0).sqrt(),
        "rmse_of_prior": rmse_of_prior,
        "bias_physical": physical.mean().to_numpy(),
        "rmse_physical": physical.apply(lambda miss: float((miss**2).mean() ** 0.5)).to_numpy(),
        "coverage_50": held[0.5],
        "coverage_90": held[JUDGED],
        "sd_reduction_percent": 100 * (1 - found.ratio.mean(0)),
        "determined_share": found.determined.double().mean(0),
        "verdict": [
            judge(*values, lowest) for values in zip(rmse.tolist(), rmse_of_prior.tolist(), held[JUDGED].tolist(), strict=True)
        ],
    }
    frame = pd.DataFrame({name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in rows.items()})
    return Certificate(frame, cases, _in_words(frame, target))


def judge(rmse: float, rmse_of_prior: float, coverage: float, lowest: float) -> str:
    """Return the verdict on one parameter.

    Args:
        rmse: Error of the estimates [prior sd].
        rmse_of_prior: Error without data [prior sd].
        coverage: Share of twins whose 90 % interval holds the truth.
        lowest: Lowest share that chance allows.

    Example:
        >>> judge(0.4, 0.8, 0.9, 0.78), judge(0.6, 0.8, 0.9, 0.78), judge(0.61, 0.8, 0.9, 0.78), judge(0.1, 0.8, 0.7, 0.78)
        ('recoverable', 'partly recoverable', 'not identifiable', 'biased or over-confident')
    """
    if coverage < lowest:
        return OVERCONFIDENT
    if rmse <= _RECOVERED * rmse_of_prior:
        return RECOVERABLE
    return PARTLY if rmse <= _PARTLY_RECOVERED * rmse_of_prior else UNIDENTIFIABLE


def _tabulate_cases(problem: InversionProblem, found: Estimates) -> pd.DataFrame:
    """Lay out every twin's truth and estimate of every free parameter in physical units, the twins of one parameter together."""
    space, names = problem.space, problem.space.table.names

    def physical(units: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = space.to_physical(to_theta(problem, units.flatten(0, -2))).view(units.shape)
        return values.double()

    draws = physical(found.draws)
    values = {
        "truth": physical(found.truth),
        "mode": physical(found.mode),
        "mean": draws.mean(1),
        "p05": draws.quantile(0.05, dim=1),
        "p95": draws.quantile(0.95, dim=1),
    }
    parts = [
        pd.DataFrame(
            {"twin": range(len(found.truth)), "name": names[i], **{key: value[:, i].numpy() for key, value in values.items()}}
        )
        for i in found.free.tolist()
    ]
    return pd.concat(parts, ignore_index=True)


def _in_words(table: pd.DataFrame, target: str) -> str:
    def those(verdict: str) -> Sequence[str]:
        return list(table.loc[table["verdict"] == verdict, "name"])

    found, partly, wrong = those(RECOVERABLE), those(PARTLY), those(OVERCONFIDENT)
    parts = [f"{len(found)} of {len(table)} parameters are recoverable from {flux_name(target)} here{_list(found)}."]
    if partly:
        parts.append(f"{len(partly)} are partly so{_list(partly)}.")
    if wrong:
        parts.append(f"{len(wrong)} would come out biased or over-confident{_list(wrong)}.")
    parts.append(f"{len(those(UNIDENTIFIABLE))} are not identifiable: what an inversion says of them is mostly its prior.")
    return " ".join(parts)


def _list(names: Sequence[str]) -> str:
    return f": {', '.join(names)}" if names else ""
