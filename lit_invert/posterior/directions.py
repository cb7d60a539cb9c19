"""Directions of the parameters in words: which the data know, and which pairs they see but cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .identify import STRONG, correlate, practical_rank
from .target import Mode

#: Weights that a direction's words name, as a share of its largest, and how many at most.
_NAMED, _MOST_NAMED = 0.35, 4
#: Directions that are put into words at least, from the one that the data know best.
_FEWEST_DIRECTIONS = 8
#: Pairs of parameters that are told at most.
_MOST_PAIRS = 12


def describe_directions(mode: Mode) -> list[dict[str, Any]]:
    """Put the directions that the data know best into words: all that they know better than the prior, and at least eight.

    Returns:
        For each, the best known first: `eigenvalue` (how much better than the prior the data know it), `words` ("pmax up, rmf0
        down"), `trade_off` (what its first two parameters can do together without the data noticing, or nothing), and `weights` by
        name.
    """
    names = [mode.problem.space.table.names[place] for place in mode.free.tolist()]
    information = mode.information[0]
    values, vectors = torch.linalg.eigh(information)
    count = max(_FEWEST_DIRECTIONS, int(practical_rank(mode.information)[0]))
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


def describe_trade_offs(mode: Mode, draws: Tensor) -> list[dict[str, Any]]:
    """Put into words which two parameters the data see, but can hardly tell from each other.

    Args:
        mode: The mode of one member.
        draws: Draws of the posterior in prior units, (M, P).

    Returns:
        `words` and `correlation` of each pair of correlated draws whose parameters, each with all others held, the data know better
        than the prior does; the strongest first.
    """
    names = [mode.problem.space.table.names[place] for place in mode.free.tolist()]
    seen = mode.information[0].diagonal() > 1
    strength = torch.triu(correlate(draws[:, mode.free]) * torch.outer(seen, seen), diagonal=1)
    pairs = [(i, j, strength[i, j].item()) for i, j in (strength.abs() >= STRONG).nonzero().tolist()]
    return [
        {"words": _together(names[i], names[j], r > 0), "correlation": r}
        for i, j, r in sorted(pairs, key=lambda pair: -abs(pair[2]))[:_MOST_PAIRS]
    ]


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
    return _together(names[named[0]], names[named[1]], bool(unseen.prod() > 0))


def _together(first: str, second: str, is_same: bool) -> str:
    if is_same:
        return f"{first} and {second} can rise together, unseen by these data"
    return f"{first} can rise while {second} falls, unseen by these data"
