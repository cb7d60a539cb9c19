"""What a method did: every loss that it evaluated, and when.

A method moves theta as it likes, but it asks a :class:`Recorder` for losses and gradients, or tells it what it evaluated by other
means. So "time to a loss" can be read off any method afterwards, for any loss, and a budget stops any method.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lit_invert.problem import InversionProblem


class BudgetSpent(Exception):
    """The method has had its time."""


@dataclass
class Trace:
    """The course of one method on one problem; the lists have one entry an evaluation."""

    seconds: list[float] = field(default_factory=list)
    """Wall time since the start [s]."""
    cpu_seconds: list[float] = field(default_factory=list)
    """CPU time of the process since the start [s]."""
    losses: list[float] = field(default_factory=list)
    """The loss, of the best member where several were evaluated together."""
    evaluations: list[int] = field(default_factory=list)
    """Simulations so far, a member each; one with gradient counts as one."""
    theta: Tensor = field(default_factory=lambda: torch.empty(0))
    """Where the lowest loss was found, (1, P)."""

    @property
    def best(self) -> float:
        """The lowest loss."""
        return min(self.losses)

    def first(self, loss: float) -> int | None:
        """Return the place of the first entry at or below a loss, if there is one."""
        reached = np.flatnonzero(np.asarray(self.losses) <= loss)
        return int(reached[0]) if reached.size else None

    def seconds_to(self, loss: float) -> float:
        """Return the wall time until a loss was reached, infinite if it never was [s].

        Example:
            >>> Trace([1.0, 2.0, 3.0], [], [5.0, 2.0, 3.0]).seconds_to(2.5)
            2.0
        """
        place = self.first(loss)
        return math.inf if place is None else self.seconds[place]

    def cpu_seconds_to(self, loss: float) -> float:
        """Return the CPU time until a loss was reached, infinite if it never was [s]."""
        place = self.first(loss)
        return math.inf if place is None else self.cpu_seconds[place]


class Recorder:
    """Evaluate a problem for a method and keep the trace.

    Args:
        problem: The inverse problem.
        budget: Wall time after which :class:`BudgetSpent` is raised [s].
    """

    def __init__(self, problem: InversionProblem, budget: float = math.inf) -> None:
        self.problem, self.budget, self.trace = problem, budget, Trace()
        self._lowest, self._count = math.inf, 0
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def until_spent(self) -> AbstractContextManager[None]:
        """Return a context that ends quietly when the budget is spent."""
        return suppress(BudgetSpent)

    @torch.no_grad()
    def losses(self, theta: Tensor) -> Tensor:
        """Return the losses (B,) of theta (B, P)."""
        losses: Tensor = self.problem(theta).total
        self.note(theta, losses)
        return losses

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses (B,) and their gradients (B, P) by autograd."""
        theta = theta.detach().requires_grad_()
        losses = self.problem(theta).total
        (gradient,) = torch.autograd.grad(losses.sum(), theta)
        self.note(theta, losses)
        return losses.detach(), gradient

    def note(self, theta: Tensor, losses: Tensor) -> None:
        """Record what was evaluated: theta (B, P) and its losses (B,).

        Raises:
            BudgetSpent: If the time is over.
        """
        trace, seconds = self.trace, time.perf_counter() - self._wall
        losses = losses.detach().nan_to_num(math.inf)
        member = int(losses.argmin())
        self._count += len(losses)
        trace.seconds.append(seconds)
        trace.cpu_seconds.append(time.process_time() - self._cpu)
        trace.losses.append(losses[member].item())
        trace.evaluations.append(self._count)
        if trace.losses[-1] < self._lowest:
            self._lowest, trace.theta = trace.losses[-1], theta[member : member + 1].detach().clone()
        if seconds > self.budget:
            raise BudgetSpent
