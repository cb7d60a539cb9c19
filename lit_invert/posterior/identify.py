r"""Identifiability in the words of parameters: what the data determined, what they traded off, and what only the prior says.

In prior units the prior knows as much of every direction, namely one; a direction that the data know more of than that is
determined by them, and the number of those is the practical rank. Of a single parameter the data may know much while the others
are held, and nothing when they are not: it is traded off, and its largest posterior correlation says with which. The classes, in
the order in which they are tried:

- `fixed`: the table says so.
- `at bound`: the mode lies on a bound, and the data push on.
- `determined`: the posterior's standard deviation is at most half of the prior's, cut to the same bounds.
- `traded off`: it would be, if the other parameters were known.
- `prior only`: it is not even then.

Source:
    Vallisneri (2008), Phys. Rev. D 77, 042001, doi:10.1103/PhysRevD.77.042001, for what a Fisher matrix can and cannot say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .target import Mode, unit_bounds

#: A parameter is determined when its standard deviation is at most this share of the prior's.
DETERMINED = 0.5
#: Weights that a direction's words name, as a share of its largest, and how many at most.
_NAMED, _MOST_NAMED = 0.35, 4
#: How close to a bound is on it, and how hard the data must push there [prior sd, and per prior sd].
_ON_BOUND, _PUSH = 1e-3, 1e-3
#: Directions that are put into words, from the one that the data know best.
_MOST_DIRECTIONS = 8


@dataclass(frozen=True)
class Identified:
    """What is known of each of P parameters."""

    classes: tuple[str, ...]
    traded_with: tuple[str, ...]
    """Name of the parameter of the largest correlation, for those traded off; empty for the others."""
    variance_ratio: Tensor
    """Variance of the posterior over that of the prior cut to the bounds, (P,) [-]; NaN where fixed."""


def cut_prior_sd(lower: Tensor, upper: Tensor) -> Tensor:
    r"""Return the standard deviation of a standard normal cut to an interval.

    .. math:: 1 - \frac{h \phi(h) - l \phi(l)}{Z} - \left( \frac{\phi(h) - \phi(l)}{Z} \right)^2, \qquad Z = \Phi(h) - \Phi(l)

    is its square.

    Example:
        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> round(cut_prior_sd(zero, torch.inf + zero).square().item(), 6) == round(1 - 2 / torch.pi, 6)
        True
    """
    mass: Tensor = torch.special.ndtr(upper) - torch.special.ndtr(lower)
    low, high = ((-side.square() / 2).exp() / (2 * torch.pi) ** 0.5 / mass for side in (lower, upper))
    ends = [torch.where(side.isfinite(), side, 0.0) * density for side, density in ((lower, low), (upper, high))]
    variance: Tensor = 1 - (ends[1] - ends[0]) - (high - low).square()
    return variance.sqrt()


def sd_ratio(mode: Mode, draws: Tensor) -> Tensor:
    """Return the posterior's standard deviation over the cut prior's, (B, K), of draws in prior units, (B, M, P)."""
    lower, upper = unit_bounds(mode.problem, mode.theta)
    prior = cut_prior_sd(lower, upper)[:, mode.free]
    return draws[..., mode.free].std(1) / prior


def identify(mode: Mode, draws: Tensor) -> Identified:
    """Say of each parameter of one member what determined it.

    Args:
        mode: The mode.
        draws: Draws of the posterior in prior units, (M, P).
    """
    names, free = mode.problem.space.table.names, mode.free.tolist()
    ratio = sd_ratio(mode, draws[None])[0]
    lower, upper = unit_bounds(mode.problem, mode.theta)
    alone = mode.precision[0].diagonal().rsqrt() / cut_prior_sd(lower, upper)[0, mode.free]
    stuck, correlation = is_pushed(mode)[0], correlate(draws[:, mode.free])
    classes, partners = ["fixed"] * len(names), [""] * len(names)
    ratios = torch.full((len(names),), torch.nan, dtype=torch.float64)
    for k, place in enumerate(free):
        ratios[place] = ratio[k].square()
        classes[place] = classify(bool(stuck[k]), float(ratio[k]), float(alone[k]))
        if classes[place] == "traded off":
            others = correlation[k].abs().index_fill(0, torch.tensor(k), 0.0)
            partners[place] = names[free[int(others.argmax())]]
    return Identified(tuple(classes), tuple(partners), ratios)


def is_pushed(mode: Mode) -> Tensor:
    """Say of each free parameter whether it lies on a bound that the data push against, (B, K)."""
    lower, upper = (side[:, mode.free] for side in unit_bounds(mode.problem, mode.theta))
    units = mode.units[:, mode.free]
    at_lower = (units <= lower + _ON_BOUND) & (mode.gradient > _PUSH)
    return at_lower | ((units >= upper - _ON_BOUND) & (mode.gradient < -_PUSH))


def classify(is_stuck: bool, ratio: float, alone: float) -> str:
    """Return the class of a free parameter.

    Args:
        is_stuck: Whether it is pushed against a bound.
        ratio: Its standard deviation over the cut prior's.
        alone: The same, were all other parameters known.

    Example:
        >>> classify(False, 0.5, 0.4), classify(False, 0.51, 0.4), classify(False, 0.9, 0.8)
        ('determined', 'traded off', 'prior only')
    """
    if is_stuck:
        return "at bound"
    if ratio <= DETERMINED:
        return "determined"
    return "traded off" if alone <= DETERMINED else "prior only"


def correlate(draws: Tensor) -> Tensor:
    """Return the correlation matrix of draws, (M, K), zero beside the diagonal for what does not vary."""
    deviation = draws.std(0)
    covariance = torch.cov(draws.T).reshape(len(deviation), -1)
    matrix = covariance / torch.outer(deviation, deviation).clamp_min(torch.finfo(draws.dtype).tiny)
    return matrix.fill_diagonal_(1.0)


def practical_rank(information: Tensor) -> Tensor:
    """Return how many directions the data know better than the prior does, (B,).

    Example:
        >>> practical_rank(torch.diag(torch.tensor([9.0, 1.5, 0.5])).unsqueeze(0))
        tensor([2])
    """
    eigenvalues: Tensor = torch.linalg.eigvalsh(information)
    return (eigenvalues > 1).sum(-1)


def describe_directions(mode: Mode) -> list[dict[str, Any]]:
    """Put the directions that the data know best into words.

    Returns:
        For each, the best known first: `eigenvalue` (how much better than the prior the data know it), `words` ("pmax up, rmf0
        down"), `trade_off` (what its first two parameters can do together without the data noticing, or nothing), and `weights` by
        name.
    """
    names = [mode.problem.space.table.names[place] for place in mode.free.tolist()]
    information = mode.information[0]
    values, vectors = torch.linalg.eigh(information)
    count = min(_MOST_DIRECTIONS, len(names), max(1, int(practical_rank(mode.information)[0])))
    found = []
    for value, vector in list(zip(values.flip(0), vectors.flip(1).T, strict=True))[:count]:
        named = _leading(vector)
        oriented = vector * vector[named[0]].sign()
        found.append(
            {
                "eigenvalue": value.item(),
                "words": ", ".join(f"{names[i]} {'up' if oriented[i] > 0 else 'down'}" for i in named),
                "trade_off": trade_off(information, named, names),
                "weights": {names[i]: oriented[i].item() for i in named},
            }
        )
    return found


def _leading(vector: Tensor) -> list[int]:
    """Return the places that a direction is named by, the heaviest first."""
    order = vector.abs().argsort(descending=True).tolist()
    return [i for i in order[:_MOST_NAMED] if vector[i].abs() >= _NAMED * vector[order[0]].abs()]


def trade_off(information: Tensor, named: Sequence[int], names: Sequence[str]) -> str:
    """Say how the first two parameters of a direction can move together unseen; empty where the data see them both.

    In their plane the data know one direction (more than the prior does), and the one across it less than the prior does.

    Example:
        >>> sum_known = torch.tensor([[8.0, 8.0], [8.0, 8.0]])
        >>> trade_off(sum_known, [0, 1], ["pmax", "rmf0"])
        'pmax can rise while rmf0 falls, unseen by these data'
    """
    if len(named) < 2:
        return ""
    pair = torch.tensor(named[:2])
    values, vectors = torch.linalg.eigh(information[pair][:, pair])
    unseen = vectors[:, 0]
    if values[0] >= 1 or values[1] <= 1 or unseen.abs().min() < _NAMED * unseen.abs().max():
        return ""
    first, second = (names[i] for i in named[:2])
    if bool(unseen.prod() > 0):
        return f"{first} and {second} can rise together, unseen by these data"
    return f"{first} can rise while {second} falls, unseen by these data"


def disagreements(
    classes: Mapping[str, str],
    profiles: Mapping[str, Mapping[str, Any]] | None = None,
    start_spread: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Say where other evidence contradicts the class of a parameter.

    Args:
        classes: Class by name.
        profiles: By name what its profile says: `flag` (`two-sided`, `one-sided` or `flat`), and `low_closed_by` and
            `high_closed_by` (`data`, `prior` or `bound`).
        start_spread: Standard deviation of the optima of equally good starts over the prior's, by name.

    Returns:
        A sentence for each name that has a contradiction.

    Example:
        >>> disagreements({"pmax": "determined"}, {"pmax": {"flag": "flat"}})
        {'pmax': 'called determined, but its profile is flat'}
    """
    reasons: dict[str, list[str]] = {}
    for name, found in (profiles or {}).items():
        if classes[name] == "determined" and found["flag"] != "two-sided":
            reasons.setdefault(name, []).append(f"its profile is {found['flag']}")
        elif classes[name] == "prior only" and found.get("low_closed_by") == found.get("high_closed_by") == "data":
            reasons.setdefault(name, []).append("the data close its profile on both sides")
    for name, spread in (start_spread or {}).items():
        if classes[name] == "determined" and spread > DETERMINED:
            reasons.setdefault(name, []).append(f"equally good starts end {spread:.1f} prior sd apart")
    return {name: f"called {classes[name]}, but {' and '.join(found)}" for name, found in reasons.items()}
