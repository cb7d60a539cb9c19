r"""Calibration: whether intervals hold the truth as often as they promise.

Truths that are drawn from the prior, and records that are made from them, have a property that only a correct posterior has: the
rank of the truth among draws from its posterior is uniform. Posteriors that are too narrow pile ranks up at both ends, too wide
ones in the middle, biased ones at one end. Ranks of each free parameter, and of annual fluxes, are tested with a chi-square in
equal bins; since there are many of them, their p-values are corrected by Holm's method. The expected coverage says the same in
the words of an interval: the share of truths inside the central interval of each level; the limits that chance leaves to that of
each parameter are corrected for the number of parameters.

A correct posterior covers whatever a record says, so coverage may be counted over the parameters that a twin's own posterior calls
determined; over all parameters alone it would look good where most draws are the prior's.

Sources:
    Talts et al. (2018), Validating Bayesian Inference Algorithms with Simulation-Based Calibration, arXiv:1804.06788.
    Cook, Gelman and Rubin (2006), J. Comput. Graph. Stat. 15, 675-692, doi:10.1198/106186006X136976.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from ..problem import InversionProblem
from .bands import simulate_draws
from .chance import RARE, binomial_limits, correct_for_many, uniformity
from .twins import Estimates, Twins

#: Levels of the central intervals whose coverage is counted.
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
#: The level that verdicts look at, and between which shares it passes when pooled over all that is determined.
JUDGED, PASSES = 0.9, (0.85, 0.95)
#: Chance with which all ranks together fail though they are uniform.
SIGNIFICANT = 0.05
#: Fluxes whose mean over the record is ranked beside the parameters.
_FLUXES = ("nep", "gpp", "rh")


def rank_truth(truth: Tensor, draws: Tensor, generator: Generator) -> Tensor:
    """Return how many draws are smaller than the truth, in 0..M; draws that equal it fall on either side by chance.

    Args:
        truth: (B, ...).
        draws: Draws of each, (B, M, ...).
        generator: Source of randomness, on the CPU.

    Example:
        >>> rank_truth(torch.tensor([0.5]), torch.tensor([[0.1, 0.7, 0.3]]), torch.Generator())
        tensor([2])
    """
    known = truth[:, None]
    ties = (draws == known).sum(1)
    share = torch.rand(ties.shape, generator=generator, dtype=torch.float64)
    return (draws < known).sum(1) + (share * (ties + 1)).long()


def inside(truth: Tensor, draws: Tensor, level: float) -> Tensor:
    """Return whether each truth, (B, P), lies inside the central interval of this level of its draws, (B, M, P).

    Its ends are the draws of rank p (M + 1): of a truth that is one more draw of the same posterior, these hold exactly the share
    that they promise, where sample quantiles of few draws hold less.

    Example:
        >>> draws = torch.arange(1.0, 100.0).view(1, 99, 1)
        >>> sum(bool(inside(torch.tensor([[place + 0.5]]), draws, 0.9)) for place in range(100)) / 100
        0.9
    """
    count = draws.shape[1]
    places = ((0.5 + side * level / 2) * (count + 1) - 1 for side in (-1, 1))
    low, high = (torch.quantile(draws, min(max(place / (count - 1), 0.0), 1.0), dim=1) for place in places)
    return (truth >= low) & (truth <= high)


@dataclass(frozen=True)
class Calibration:
    """What twin experiments say of a posterior."""

    ranks: pd.DataFrame
    """A row a twin, a column a parameter or flux: ranks of the truth."""
    tests: pd.DataFrame
    """A row for each: `name`, `chi_square`, `p`, `p_corrected`, and of parameters `coverage`, `determined` (number of twins),
    `coverage_determined`, and `low` and `high`, between which chance alone leaves it."""
    coverage: pd.DataFrame
    """A row a level: level, all, determined."""
    summary: Mapping[str, Any]
    """Content of calibration.json."""


def calibrate(twins: Twins, found: Estimates, generator: Generator) -> Calibration:
    """Compare truths with the posteriors that were found of them.

    Args:
        twins: The twins.
        found: What was found of them.
        generator: Source of randomness, on the CPU.
    """
    names = [twins.problem.space.table.names[i] for i in found.free.tolist()]
    truth, draws = found.truth[:, found.free], found.draws[..., found.free]
    ranks = rank_truth(truth, draws, generator)
    fluxes = {name: rank_truth(*values, generator) for name, values in mean_fluxes(twins.problem, found).items()}
    table = pd.DataFrame(ranks.numpy(), columns=names).assign(**{name: column.numpy() for name, column in fluxes.items()})
    tests = _test(table, draws.shape[1]).merge(_cover(names, truth, draws, found.determined), on="name", how="left")
    levels = [{"level": level, **_pool(inside(truth, draws, level), found.determined)} for level in LEVELS]
    coverage = pd.DataFrame(levels)
    return Calibration(table, tests, coverage, summarise(tests, coverage, found))


def mean_fluxes(problem: InversionProblem, found: Estimates) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean fluxes over the record of the truths, (B,), and of the draws, (B, M), by `mean <flux>` [gC m-2 d-1]."""
    _, draws, parameters = found.draws.shape
    together = torch.cat([found.truth[:, None], found.draws], dim=1).reshape(-1, parameters)
    parts = [simulate_draws(problem, part).mean(1) for part in together.split(draws + 1)]
    means = torch.stack(parts).double()
    outputs = problem.surrogate.spec.output_names
    places = {name: outputs.index(name) for name in _FLUXES if name in outputs}
    return {f"mean {name}": (means[:, 0, place], means[:, 1:, place]) for name, place in places.items()}


def _test(ranks: pd.DataFrame, draws: int) -> pd.DataFrame:
    found = [uniformity(torch.tensor(ranks[name].to_list()), draws) for name in ranks]
    p_values = [p for _, p in found]
    columns = {"name": list(ranks), "chi_square": [value for value, _ in found], "p": p_values}
    return pd.DataFrame({**columns, "p_corrected": correct_for_many(p_values)})


def _cover(names: Sequence[str], truth: Tensor, draws: Tensor, determined: Tensor) -> pd.DataFrame:
    held, rows = inside(truth, draws, JUDGED), []
    for k, name in enumerate(names):
        own = held[determined[:, k], k]
        low, high = binomial_limits(len(own), JUDGED, RARE / len(names))
        share = own.double().mean().item() if len(own) else math.nan
        row = {"name": name, "coverage": held[:, k].double().mean().item(), "determined": len(own)}
        rows.append({**row, "coverage_determined": share, "low": low, "high": high})
    return pd.DataFrame(rows)


def _pool(held: Tensor, determined: Tensor) -> dict[str, float]:
    return {"all": held.double().mean().item(), "determined": held[determined].double().mean().item()}


def summarise(tests: pd.DataFrame, coverage: pd.DataFrame, found: Estimates) -> dict[str, Any]:
    """Return the verdicts of a calibration, ready for JSON."""
    pooled = float(coverage.loc[coverage["level"] == JUDGED, "determined"].iloc[0])
    outside = tests[(tests["coverage_determined"] < tests["low"]) | (tests["coverage_determined"] > tests["high"])]
    uneven = tests[tests["p_corrected"] < SIGNIFICANT]
    passed = {
        "coverage": PASSES[0] <= pooled <= PASSES[1],
        "each parameter": outside.empty,
        "ranks": uneven.empty,
    }
    return {
        "twins": len(found.truth),
        "draws": found.draws.shape[1],
        "determined": int(found.determined.sum()),
        "coverage": coverage.to_dict("records"),
        "parameters": tests.to_dict("records"),
        "passed": passed,
        "verdict": _in_words(pooled, int(found.determined.sum()), list(outside["name"]), list(uneven["name"])),
    }


def _in_words(pooled: float, pairs: int, outside: Sequence[str], uneven: Sequence[str]) -> str:
    if not pairs:
        held = "No twin determined a parameter, so no interval that the data made could be checked."
    else:
        share, verdict = 100 * pooled, "as it should" if PASSES[0] <= pooled <= PASSES[1] else "not as it should"
        held = f"The 90 % interval of determined parameters holds the truth in {share:.0f} % of {pairs} cases, {verdict}."
    limits = f"Outside their binomial limits: {', '.join(outside)}." if outside else "Each lies within its binomial limits."
    ranks = f"Ranks are not uniform: {', '.join(uneven)}." if uneven else "No ranks were shown to be uneven."
    return " ".join([held, *([limits] if pairs else []), ranks])
