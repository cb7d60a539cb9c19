"""An inversion as solvers see it: the loss of a problem, its gradient, and its Gauss-Newton curvature.

Terms that declare residuals r contribute :math:`2 w J^T J` to the curvature, with J pushed forward through the simulator along
every free component of theta at once. Terms that do not contribute their gradient alone, which is kept apart as the remainder.
Since J is at hand, no gradient needs a backward pass through the surrogate.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .losses.base import Evaluation, LossTerm, Tangent
from .objective import Linearization
from .problem import InversionProblem, Loss

Value = TypeVar("Value")


class ProblemObjective:
    """The objective of a problem; it remembers the last theta that it was asked about, so that asking again is free.

    Args:
        problem: The problem.
        is_bounded: Whether the parameters must stay inside the table's bounds.
    """

    def __init__(self, problem: InversionProblem, is_bounded: bool = True) -> None:
        self.problem, self.is_bounded = problem, is_bounded
        self._gradient: _Last[tuple[Tensor, Tensor]] = _Last()
        self._linearization: _Last[Linearization] = _Last()
        self._loss: _Last[Loss] = _Last()

    @torch.no_grad()
    def loss(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return the loss of each member, (b,)."""
        total: Tensor = self.problem(theta, members).total
        return total

    @torch.no_grad()
    def loss_at(self, theta: Tensor) -> Loss:
        """Return the loss of all members term by term; free where a gradient or linearisation has just been asked for."""
        known = self._loss.at(theta, None)
        return self._loss.keep(theta, None, self.problem(theta)) if known is None else known

    def gradient(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss, (b,), and its gradient, (b, P), by a backward pass."""
        known = self._gradient.at(theta, members)
        if known is not None:
            return known
        leaf = theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            loss = self.problem(leaf, members)
            (gradient,) = torch.autograd.grad(loss.total.sum(), leaf)
        self._loss.keep(theta, members, _detached(loss))
        return self._gradient.keep(theta, members, (loss.total.detach(), gradient))

    @torch.no_grad()
    def linearize(self, theta: Tensor, members: Tensor | None = None) -> Linearization:
        """Return loss, gradient and Gauss-Newton curvature by tangents pushed forward."""
        known = self._linearization.at(theta, members)
        if known is not None:
            return known
        evaluation, tangent, free = self.problem.push(theta, members)
        loss = self.problem.loss_of(evaluation)
        self._loss.keep(theta, members, loss)
        return self._linearization.keep(theta, members, self._assemble(theta, loss, tangent, free))

    def bounds(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds in the coordinates of theta, (b, P) each."""
        lower, upper = self.problem.space.theta_bounds(theta)
        if self.is_bounded:
            return lower, upper
        fixed = self.problem.space.fixed
        return torch.where(fixed, lower, -torch.inf), torch.where(fixed, upper, torch.inf)

    def project(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return theta clipped to the bounds in physical space."""
        return self.problem.space.project(theta)[0] if self.is_bounded else theta

    def _assemble(self, theta: Tensor, loss: Loss, tangent: Tangent, free: Tensor) -> Linearization:
        count = len(free)
        gradient, remainder = theta.new_zeros(len(theta), count), None
        curvature = theta.new_zeros(len(theta), count, count)
        for term in self.problem.loss_terms:
            residuals = term.residuals(loss.evaluation) if term.weight >= 0 else None
            if residuals is None:
                part = term.weight * _gradient_of(term, loss.evaluation, tangent)
                remainder = part if remainder is None else remainder + part
                continue
            pushed = term.push_residuals(loss.evaluation, tangent)
            across = pushed.transpose(1, 2)
            curvature = curvature + 2 * term.weight * (across @ pushed)
            gradient = gradient + 2 * term.weight * (across @ residuals.unsqueeze(-1)).squeeze(-1)
        return Linearization(
            loss.total,
            _spread(gradient if remainder is None else gradient + remainder, theta, free),
            _spread(_spread(curvature, theta, free).transpose(1, 2), theta, free),
            None if remainder is None else _spread(remainder, theta, free),
        )


class _Last(Generic[Value]):
    """The last answer, and what was asked."""

    def __init__(self) -> None:
        self._asked: tuple[Tensor, Tensor | None] | None = None
        self._value: Value | None = None

    def at(self, theta: Tensor, members: Tensor | None) -> Value | None:
        return self._value if self._asked is not None and all(map(_is_same, self._asked, (theta, members))) else None

    def keep(self, theta: Tensor, members: Tensor | None, value: Value) -> Value:
        self._asked, self._value = (theta.detach().clone(), None if members is None else members.clone()), value
        return value


def _is_same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.device == b.device and torch.equal(a, b)


def _gradient_of(term: LossTerm, evaluation: Evaluation, tangent: Tangent) -> Tensor:
    """Return the derivative of a term without residuals along each direction, (B, K)."""
    names = [field.name for field in fields(Tangent)]
    leaves = {name: getattr(evaluation, name).detach().clone().requires_grad_() for name in names}
    with torch.enable_grad():
        value = term(replace(evaluation, **leaves))
        if not value.requires_grad:  # it does not depend on the parameters
            return torch.zeros_like(tangent.scaled[..., 0])
        slopes = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True)
    total = torch.zeros_like(tangent.scaled[..., 0])
    for name, slope in zip(names, slopes, strict=True):
        if slope is not None:
            direction = getattr(tangent, name)
            total = total + (
                torch.einsum("btv,btvk->bk", slope, direction)
                if name == "simulated"
                else torch.einsum("bp,bkp->bk", slope, direction)
            )
    return total


def _spread(values: Tensor, theta: Tensor, free: Tensor) -> Tensor:
    """Return values of the K free components (B, ..., K) among all P, zero at the others."""
    if len(free) == theta.shape[1]:
        return values
    spread = values.new_zeros(*values.shape[:-1], theta.shape[1])
    spread[..., free] = values
    return spread


def _detached(loss: Loss) -> Loss:
    evaluation = replace(
        loss.evaluation,
        **{name: getattr(loss.evaluation, name).detach() for name in ("scaled", "physical", "simulated", "lower", "upper")},
    )
    return Loss(
        loss.total.detach(),
        {name: value.detach() for name, value in loss.terms.items()},
        {name: value.detach() for name, value in loss.weighted.items()},
        evaluation,
    )
