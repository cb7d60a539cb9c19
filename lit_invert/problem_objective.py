"""An inversion as solvers see it: the loss of a problem, its gradient, and its Gauss-Newton curvature.

Terms that declare residuals r contribute :math:`2 w J^T J` to the curvature, with J pushed forward through the simulator along
every free component of theta at once. Terms that do not contribute their gradient alone, which is kept apart as the remainder.
Since J is at hand, no gradient needs a backward pass through the surrogate.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .kernels.frozen import is_same
from .losses.base import Evaluation, LossTerm, Tangent
from .objective import Linearization
from .problem import InversionProblem, Loss

Value = TypeVar("Value")
#: Fields of an evaluation that theta moves.
_MOVING = ("scaled", "physical", "simulated", "lower", "upper")


class ProblemObjective:
    """The objective of a problem; it remembers the last theta that it was asked about, so that asking again is free.

    Args:
        problem: The problem.
        is_bounded: Whether the parameters must stay inside the table's bounds.
        rows: Which member of the problem each member here is, (B,), where some are left out or stand several times.
    """

    def __init__(self, problem: InversionProblem, is_bounded: bool = True, rows: Tensor | None = None) -> None:
        self.problem, self.is_bounded, self._rows = problem, is_bounded, rows
        self._gradient: _Last[tuple[Tensor, Tensor]] = _Last()
        self._linearization: _Last[Linearization] = _Last()
        self._known: _Known = _Known()

    def repeated(self, members: int, times: int) -> ProblemObjective:
        """Return the objective of each of its members so many times in a row: several starts of each site."""
        if times == 1:
            return self
        rows = torch.arange(members, device=self.problem.mask.device) if self._rows is None else self._rows
        if len(self.problem.mask) == 1 and len(self.problem.space.priors) == 1:
            rows = torch.zeros_like(rows)
        return ProblemObjective(self.problem, self.is_bounded, rows.repeat_interleave(times))

    def forget(self) -> None:
        """Forget every answer, because the weight of a term has changed."""
        self._gradient, self._linearization, self._known = _Last(), _Last(), _Known()

    def _rows_of(self, members: Tensor | None) -> Tensor | None:
        return members if self._rows is None else self._rows if members is None else self._rows[members]

    @torch.no_grad()
    def loss(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return the loss of each member, (b,)."""
        total: Tensor = self.problem(theta, self._rows_of(members)).total
        return total

    @torch.no_grad()
    def loss_at(self, theta: Tensor) -> Loss:
        """Return the loss of all members term by term; only those are evaluated whose theta has moved since they last were."""
        moved = self._known.moved(theta)
        if moved is None:
            return self._known.keep(theta, None, self.problem(theta, self._rows))
        if len(moved):
            self._known.keep(theta[moved], moved, self.problem(theta[moved], self._rows_of(moved)))
        return self._known.loss

    def gradient(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss, (b,), and its gradient, (b, P), by a backward pass."""
        known = self._gradient.at(theta, members)
        if known is not None:
            return known
        leaf = theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            loss = self.problem(leaf, self._rows_of(members))
            (gradient,) = torch.autograd.grad(loss.total.sum(), leaf)
        self._known.keep(theta, members, _detached(loss))
        return self._gradient.keep(theta, members, (loss.total.detach(), gradient))

    @torch.no_grad()
    def linearize(self, theta: Tensor, members: Tensor | None = None) -> Linearization:
        """Return loss, gradient and Gauss-Newton curvature by tangents pushed forward."""
        known = self._linearization.at(theta, members)
        if known is not None:
            return known
        evaluation, tangent, free = self.problem.push(theta, self._rows_of(members))
        loss = self.problem.loss_of(evaluation)
        self._known.keep(theta, members, loss)
        return self._linearization.keep(theta, members, self._assemble(theta, loss, tangent, free))

    def bounds(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds in the coordinates of theta, (b, P) each."""
        space = self.problem.space.rows(self._rows_of(members))
        lower, upper = space.theta_bounds(theta)
        if self.is_bounded:
            return lower, upper
        fixed = space.fixed
        return torch.where(fixed, lower, -torch.inf), torch.where(fixed, upper, torch.inf)

    def project(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return theta clipped to the bounds in physical space."""
        return self.problem.space.rows(self._rows_of(members)).project(theta)[0] if self.is_bounded else theta

    def _assemble(self, theta: Tensor, loss: Loss, tangent: Tangent, free: Tensor) -> Linearization:
        count = len(free)
        gradient, remainder = theta.new_zeros(len(theta), count), None
        curvature = theta.new_zeros(len(theta), count, count)
        for term in self.problem.loss_terms:
            residuals = term.residuals(loss.evaluation) if term.weight >= 0 else None
            if residuals is None:
                part = term.weight * gradient_of(term, loss.evaluation, tangent)
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
        return self._value if self._asked is not None and all(map(is_same, self._asked, (theta, members))) else None

    def keep(self, theta: Tensor, members: Tensor | None, value: Value) -> Value:
        self._asked, self._value = (theta.detach().clone(), None if members is None else members.clone()), value
        return value


class _Known:
    """The last loss of every member, and the theta that it belongs to."""

    def __init__(self) -> None:
        self._theta: Tensor | None = None
        self._loss: Loss | None = None

    @property
    def loss(self) -> Loss:
        assert self._loss is not None
        return self._loss

    def moved(self, theta: Tensor) -> Tensor | None:
        """Return which members are elsewhere now, (b,), or None where nothing is known of all."""
        known = self._theta
        if known is None or known.shape != theta.shape or known.device != theta.device or known.dtype != theta.dtype:
            return None
        return (known != theta).any(-1).nonzero().flatten()

    def keep(self, theta: Tensor, members: Tensor | None, loss: Loss) -> Loss:
        if members is None:
            self._theta, self._loss = theta.detach().clone(), loss
        elif self._theta is not None and self._loss is not None:
            self._theta, self._loss = self._theta.index_copy(0, members, theta.detach()), _replace_rows(self._loss, members, loss)
        return loss


def _replace_rows(old: Loss, members: Tensor, new: Loss) -> Loss:
    """Return the losses of all members with those of some replaced."""

    def mixed(before: Tensor, now: Tensor) -> Tensor:
        return before.index_copy(0, members, now.to(before))

    fields: dict[str, Any] = {name: mixed(getattr(old.evaluation, name), getattr(new.evaluation, name)) for name in _MOVING}
    evaluation = replace(old.evaluation, **fields)
    terms, weighted = (
        {name: mixed(value, now[name]) for name, value in before.items()}
        for before, now in ((old.terms, new.terms), (old.weighted, new.weighted))
    )
    return Loss(mixed(old.total, new.total), terms, weighted, evaluation)


def gradient_of(term: LossTerm, evaluation: Evaluation, tangent: Tangent) -> Tensor:
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
        **{name: getattr(loss.evaluation, name).detach() for name in _MOVING},
    )
    return Loss(
        loss.total.detach(),
        {name: value.detach() for name, value in loss.terms.items()},
        {name: value.detach() for name, value in loss.weighted.items()},
        evaluation,
    )
