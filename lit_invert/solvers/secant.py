"""Solvers that learn the curvature from the gradients they see: a model in a box, then a line search.

Each step minimises a quadratic model in the box, looks along the way there for a point that is low enough, and teaches the model
how the gradient changed. How the model is kept is the one thing in which these solvers differ.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..objective import Objective
from .bounded import BoundedSolver, Rows
from .box import Metric, step_in_box
from .line_search import Point, search
from .stopping import Status, Stopping


class SecantSolver(BoundedSolver):
    """A bounded solver with a learned metric and a line search.

    Args:
        params: One parameter theta, (B, P).
        objective: Loss, gradient and bounds.
        search: Most gradients to one step.
        stopping: Tolerances and time limit.
    """

    _settings = (*BoundedSolver._settings, "search")

    def __init__(
        self, params: Iterable[nn.Parameter], objective: Objective, *, search: int = 20, stopping: Stopping | None = None
    ) -> None:
        super().__init__(params, objective, stopping=stopping)
        self.search = search

    @abstractmethod
    def _first(self, rows: Rows, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and gradient at the start, and set the metric up."""

    @abstractmethod
    def _metric(self, rows: Rows) -> Metric:
        """Return these members' model of the Hessian."""

    @abstractmethod
    def _learn(self, rows: Rows, length: Tensor, step: Tensor, change: Tensor) -> None:
        """Teach the metric what members that have just moved saw.

        Args:
            rows: These members.
            length: How much of the step that the metric asked for they took, (b,).
            step: What they took of it, (b, P).
            change: What that did to the gradient, (b, P).
        """

    @abstractmethod
    def _restart(self, rows: Rows) -> Tensor:
        """Renew the metric of members whose search failed; return which of them may try again, (b,) bool."""

    def _look_at(self, theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        return self._known(theta, rows) if self._memory["started"] else self._look_first(theta, rows)

    def _look_first(self, theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return loss and gradient at the start by the evaluation that `_first` will ask for."""
        return super()._look_at(theta, rows)

    def _known(self, theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return loss and gradient at theta: those of the last step, or new ones where something else has moved theta since."""
        memory, index = self._memory, rows.index
        if not torch.equal(memory["seen"][index], theta):
            loss, gradient = self._evaluate_gradient(theta, rows)
            self._remember(rows, loss=loss, gradient=gradient, seen=theta)
        # copies: with all members running these would be views of the rows that the step overwrites
        return memory["loss"][index].clone(), memory["gradient"][index].clone()

    def _advance(self, rows: Rows) -> None:
        if not self._memory["started"]:
            self._begin(rows)
        theta = self._copy(rows)
        loss, gradient = self._known(theta, rows)
        lower, upper = self.objective.bounds(theta, rows.members)
        theta = theta.double()
        lower, upper = lower - theta, upper - theta
        metric = self._metric(rows)
        flat = self.stopping.is_flat(loss, gradient, metric.diagonal(), lower, upper)
        if flat.any():
            self._finish(rows, flat, Status.GRADIENT)
            rows = rows.only(~flat)
            theta, loss, gradient, lower, upper = (value[~flat] for value in (theta, loss, gradient, lower, upper))
            metric = self._metric(rows)
        if len(theta):
            self._walk(rows, theta, loss, gradient, step_in_box(metric, gradient, lower, upper))

    def _begin(self, rows: Rows) -> None:
        self._start()
        theta = self._copy(rows)
        loss, gradient = self._first(rows, theta)
        self._check_start(rows, loss, gradient)
        self._remember(rows, loss=loss, gradient=gradient, seen=theta)

    def _walk(self, rows: Rows, theta: Tensor, loss: Tensor, gradient: Tensor, step: Tensor) -> None:
        """Search along the step, move the members that found something and renew or finish the others."""
        slope = (gradient * step).sum(-1)
        start = Point(torch.zeros_like(loss), loss, slope, theta, gradient)
        found = search(self._line(rows, theta, step), start, torch.ones_like(loss), self.search)
        fell = found.length > 0
        short = self.stopping.is_short(step, theta) & (found.length <= 1)
        moved = rows if fell.all() else rows.only(fell)
        reached = found.theta[fell].to(self._theta.dtype)
        self._remember(moved, gradient=found.gradient[fell], seen=reached)
        self._move(moved, reached, found.loss[fell], short[fell])
        self._learn(moved, found.length[fell], (found.theta - theta)[fell], (found.gradient - gradient)[fell])
        if moved is not rows:
            self._give_up(rows, ~fell, self.stopping.is_small(-slope, loss, self._theta.dtype))

    def _give_up(self, rows: Rows, failed: Tensor, arrived: Tensor) -> None:
        """Finish members whose search failed, unless a new metric lets them try again."""
        self._finish(rows, failed & arrived, Status.PROMISE)
        hopeful = rows.only(failed & ~arrived)
        self._finish(hopeful, ~self._restart(hopeful), Status.STUCK)

    def _line(self, rows: Rows, theta: Tensor, step: Tensor) -> Callable[[Tensor, Tensor], Point]:
        """Return the function that evaluates points along a step."""

        def evaluate(length: Tensor, asked: Tensor) -> Point:
            whole = bool(asked.all())
            among, index = (rows, slice(None)) if whole else (rows.only(asked), asked)
            raw = (theta + length[:, None] * step).to(self._theta.dtype)
            trial, loss, gradient = raw.clone(), torch.zeros_like(length), torch.zeros_like(step)
            trial[index] = self.objective.project(raw[index], among.members)
            loss[index], gradient[index] = self._evaluate_gradient(trial[index], among)
            loss = torch.where(loss.isfinite() & gradient.isfinite().all(-1), loss, torch.inf)
            # a coordinate that is held by its bound does not move along the line any more
            slope = (gradient * step * (trial == raw)).sum(-1)
            return Point(length, loss, slope, trial.double(), gradient)

        return evaluate
