r"""A line search for many members at once, each with its own step length.

Along a step d from theta the loss is :math:`\phi(a) = L(P(\theta + a d))`, P the projection on the bounds. A length is accepted if
the loss fell enough and the slope is no longer steep (Wolfe):

.. math:: \phi(a) \le \phi(0) + c_1 a \phi'(0) \quad\text{and}\quad \phi'(a) \ge c_2 \phi'(0)

Lengths that are too long and too short close in on an accepted one from both sides, and a cubic through both ends says where to
look next. A loss that is not finite counts as too long.

Source:
    Lewis and Overton (2013), Math. Programming 141, 135-163, doi:10.1007/s10107-012-0514-2 (the bracket).
    Nocedal and Wright (2006), Numerical optimization, 2nd edition, eq. 3.59 (the cubic).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ENOUGH_DECREASE = 1e-3
STEEP_SLOPE = 0.9
#: Where in a bracket the next length may lie, and how many times further on while there is none.
SAFE_SHARE = 0.1
STRETCH = (2.0, 5.0)
#: Share of the bracket that is kept if the loss at its far end is not finite.
RETREAT = 0.25


@dataclass
class Point:
    """A length on each member's line, (b,), with the loss, the slope along the line and the gradient there."""

    length: Tensor
    loss: Tensor
    slope: Tensor
    theta: Tensor
    gradient: Tensor

    def take(self, other: Point, chosen: Tensor) -> None:
        """Become the other point where chosen, (b,) bool."""
        for name, value in vars(self).items():
            mask = chosen if value.ndim == 1 else chosen[:, None]
            setattr(self, name, torch.where(mask, getattr(other, name), value))


def search(evaluate: Callable[[Tensor, Tensor], Point], start: Point, length: Tensor, most: int) -> Point:
    """Find an acceptable length for every member.

    Args:
        evaluate: From lengths, (b,), and which members are asked for, (b,) bool, to the points there; the rows of the others
            are ignored.
        start: The points at length 0; slopes negative.
        length: First lengths, (b,), positive.
        most: Most evaluations of a member.

    Returns:
        The best point of each member whose loss lies low enough below the start's; the start if there is none.
    """
    short, long = Point(**vars(start)), Point(**vars(start))
    bracketed = torch.zeros_like(length, dtype=torch.bool)
    searching = torch.ones_like(bracketed)
    for _ in range(most):
        point = evaluate(length, searching)
        fell = point.loss <= start.loss + ENOUGH_DECREASE * length * start.slope
        too_long = searching & ~fell
        short.take(point, searching & fell)
        searching &= ~fell | (point.slope < STEEP_SLOPE * start.slope)
        if not searching.any():
            break
        long.take(point, too_long)
        bracketed |= too_long
        length = torch.where(bracketed, _inside(short, long), _beyond(start, short))
    return short


def _inside(short: Point, long: Point) -> Tensor:
    """Return a length between both ends of the bracket."""
    width = long.length - short.length
    share = ((_cubic(short, long) - short.length) / width).clamp(SAFE_SHARE, 1 - SAFE_SHARE)
    return short.length + width * torch.where(long.loss.isfinite(), share.nan_to_num(0.5), RETREAT)


def _beyond(start: Point, short: Point) -> Tensor:
    """Return a length further on, where the slope should end."""
    low, high = STRETCH
    guess = _cubic(start, short)
    guess = torch.where(guess > short.length, guess, torch.inf).nan_to_num(torch.inf)
    return guess.clamp(low * short.length, high * short.length)


def _cubic(left: Point, right: Point) -> Tensor:
    """Return where the cubic with the losses and slopes of both points is lowest; NaN if it has no minimum."""
    width = right.length - left.length
    middle = left.slope + right.slope - 3 * (right.loss - left.loss) / width
    root = (middle**2 - left.slope * right.slope).sqrt()
    return right.length - width * (right.slope + root - middle) / (right.slope - left.slope + 2 * root)
