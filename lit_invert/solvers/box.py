r"""The step of a bounded solver: the lowest point of a quadratic model in a box.

.. math:: \min_d\ g^T d + \tfrac12 d^T M d \quad\text{with}\quad l \le d \le u

Each coordinate is either free or rests on a bound. If one knew which, the free ones would follow from a linear system. Block
pivoting guesses, solves, and corrects the guess: a free coordinate that left the box goes to the bound that it crossed, and one
on a bound whose multiplier has the wrong sign is freed. All are corrected at once while that leaves ever fewer to correct, else
one by one in a fixed order, which cannot run in circles. Nothing left to correct is the exact minimum, most often after two or
three passes. A whole batch goes through the passes together.

Source:
    Portugal, Júdice and Vicente (1994), Math. Computation 63(208), 625-643, doi:10.2307/2153286.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

#: Corrections of everything at once that may fail to leave fewer errors before they are made one by one.
PATIENCE = 3
#: Slope, relative to the steepest, that is rounding and no reason to leave a bound.
FLAT_SLOPE = 1e-12
#: Most passes, as a multiple of the number of coordinates.
PASSES = 4


class Metric(Protocol):
    """A symmetric positive definite matrix M for each member, in whatever form."""

    def multiply(self, step: Tensor) -> Tensor:
        """Return M d, (b, P)."""
        ...

    def diagonal(self) -> Tensor:
        """Return the diagonal of M, (b, P)."""
        ...

    def solve(self, right: Tensor, free: Tensor | None = None) -> Tensor:
        """Return x with M x = `right` in the rows and columns where `free` (None: all), and zero elsewhere, (b, P)."""
        ...


@dataclass(frozen=True)
class Dense:
    """A metric that is given as its matrix, (b, P, P)."""

    matrix: Tensor

    def multiply(self, step: Tensor) -> Tensor:
        """Return M d, (b, P)."""
        return (self.matrix @ step[..., None])[..., 0]

    def diagonal(self) -> Tensor:
        """Return the diagonal of M, (b, P)."""
        return self.matrix.diagonal(dim1=-2, dim2=-1)

    def solve(self, right: Tensor, free: Tensor | None = None) -> Tensor:
        """Solve among the free coordinates; all zeros for a member whose matrix is not positive definite there."""
        matrix = self.matrix
        if free is not None:
            identity = torch.eye(right.shape[-1], dtype=right.dtype, device=right.device)
            matrix, right = torch.where(free[..., None] & free[..., None, :], matrix, identity), right * free
        factor, failed = torch.linalg.cholesky_ex(matrix)
        solution = torch.cholesky_solve(right[..., None], factor)[..., 0]
        return solution.masked_fill_((failed > 0)[..., None], 0.0)


def step_in_box(metric: Metric, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the step to the model's lowest point in the box.

    Args:
        metric: The model's Hessian M.
        gradient: The model's gradient g at d = 0, (b, P).
        lower: Room below, (b, P), not positive; -inf where there is no bound.
        upper: Room above, (b, P), not negative; inf where there is no bound.

    Returns:
        The step d, (b, P), inside the box.

    Example:
        >>> metric = Dense(torch.tensor([[[2.0, 1.0], [1.0, 2.0]]]))
        >>> step_in_box(metric, torch.tensor([[-3.0, -3.0]]), torch.full((1, 2), -9.0), torch.tensor([[0.5, 9.0]]))
        tensor([[0.5000, 1.2500]])
    """
    low, high = (lower >= 0) & (gradient > 0), (upper <= 0) & (gradient < 0)
    if not (low | high).any():
        step = metric.solve(-gradient)
        if not ((step < lower) | (step > upper)).any():
            return step
    pace, flat = _Pace(gradient), FLAT_SLOPE * gradient.abs().amax(-1, keepdim=True)
    for _ in range(PASSES * gradient.shape[-1]):
        step = _step_with(metric, gradient, low, high, lower, upper)
        slope = gradient + metric.multiply(step)
        leaves_low, leaves_high = low & (slope < -flat), high & (slope > flat)
        goes_low, goes_high = step < lower, step > upper
        wrong = leaves_low | leaves_high | goes_low | goes_high
        if not wrong.any():
            break
        corrected = pace.choose(wrong)
        low, high = low ^ (corrected & (leaves_low | goes_low)), high ^ (corrected & (leaves_high | goes_high))
    return step.clamp(lower, upper)


class _Pace:
    """Chooses between all corrections at once and one at a time, for each member."""

    def __init__(self, like: Tensor) -> None:
        members, parameters = like.shape
        self.order = torch.arange(parameters, device=like.device)
        self.fewest = torch.full((members, 1), parameters + 1, device=like.device)
        self.patience = torch.full_like(self.fewest, PATIENCE)

    def choose(self, wrong: Tensor) -> Tensor:
        """Return which of the wrong coordinates, (b, P) bool, to correct now."""
        count = wrong.sum(-1, keepdim=True)
        self.patience = torch.where(count < self.fewest, PATIENCE, self.patience - 1)
        self.fewest = torch.minimum(self.fewest, count)
        last = (wrong * self.order).amax(-1, keepdim=True)
        return wrong & ((self.patience >= 0) | (self.order == last))


def _step_with(metric: Metric, gradient: Tensor, low: Tensor, high: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the step with the coordinates `low` and `high` on their bounds and the others where the slope is zero."""
    fixed = low | high
    resting = torch.where(low, lower, upper).masked_fill_(~fixed, 0.0)
    return resting + metric.solve(-gradient - metric.multiply(resting), ~fixed)
