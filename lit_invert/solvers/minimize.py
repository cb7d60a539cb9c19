"""The bare loop around a solver, without a trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ..objective import Objective
from .bounded import BoundedSolver

BuildSolver = Callable[[list[nn.Parameter], Objective], BoundedSolver]
"""A solver's class, or a function of parameters and objective that builds one with options."""


@dataclass(frozen=True)
class Solution:
    """Where a solver ended."""

    theta: Tensor
    """(B, P)."""
    loss: Tensor
    """Loss there, (B,) [-]."""
    iterations: int
    """Steps of the member that took most."""
    steps: Tensor
    """Steps of each member, (B,)."""
    status: str
    """Why it ended, in one sentence."""
    evaluations: dict[str, int]
    """Losses, gradients and linearisations, each counted once a member."""


def minimize(
    objective: Objective,
    theta: Tensor,
    build: BuildSolver,
    *,
    max_iters: int = 100,
) -> Solution:
    """Step a solver until every member is finished.

    Args:
        objective: What to minimise.
        theta: Starts, (B, P); left as it is.
        build: The solver's class, or a function of parameters and objective that builds one with options.
        max_iters: Most steps.

    Returns:
        The last theta of each member, which is the best that it saw.

    Example:
        >>> import torch
        >>> from lit_invert.solvers import BoundedLBFGS, LeastSquares
        >>> nearest = LeastSquares(lambda theta: theta - torch.tensor([2.0, 3.0]), upper=torch.tensor([1.0, 9.0]))
        >>> minimize(nearest, torch.zeros(1, 2), BoundedLBFGS).theta
        tensor([[1., 3.]])
    """
    parameter = nn.Parameter(theta.detach().clone())
    solver = build([parameter], objective)
    for _ in range(max_iters):
        if solver.finished:
            break
        solver.step()
    return Solution(parameter.detach(), solver.loss, solver.iterations, solver.steps, solver.status, solver.evaluations)
