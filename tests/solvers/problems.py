"""Objectives with known minima, and one that counts and remembers what it is asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from lit_invert.objective import Linearization
from lit_invert.solvers import BoundedLBFGS, LeastSquares, LevenbergMarquardt, QuasiNewton, Stopping

SOLVERS = [LevenbergMarquardt, BoundedLBFGS, QuasiNewton]
TIGHT = Stopping(gradient=1e-10, step=1e-13, loss=1e-15)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rosenbrock(lower: float = -5.0, upper: float = 5.0, parameters: int = 4) -> LeastSquares:
    """Minimum 0 at (1, ..., 1), at the end of a curved valley."""

    def residuals(theta: Tensor) -> Tensor:
        return torch.cat([10 * (theta[:, 1:] - theta[:, :-1] ** 2), 1 - theta[:, :-1]], dim=1)

    box = torch.ones(parameters, dtype=torch.float64)
    return LeastSquares(residuals, lower=lower * box, upper=upper * box)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear(seed: int, rows: int = 12, parameters: int = 5) -> tuple[Tensor, Tensor, LeastSquares]:
    """A theta = b in the box [-0.3, 0.3]."""
    matrix, right = draw(rows, parameters, seed=seed), draw(rows, seed=seed + 1000)
    box = torch.full((parameters,), 0.3, dtype=torch.float64)
    return matrix, right, LeastSquares(lambda theta: theta @ matrix.T - right, lower=-box, upper=box)


def best_of_all_active_sets(matrix: Tensor, right: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Minimise |A x - b|^2 in a box by trying each of the 3^P ways in which coordinates can rest on their bounds."""
    best, lowest = lower, torch.inf
    for places in itertools.product((-1, 0, 1), repeat=len(lower)):
        place = torch.tensor(places)
        candidate = torch.where(place < 0, lower, upper)
        free = place == 0
        if free.any():
            candidate[free] = torch.linalg.lstsq(matrix[:, free], right - matrix[:, ~free] @ candidate[~free]).solution
        loss = (matrix @ candidate - right).square().sum()
        if loss < lowest and (candidate >= lower).all() and (candidate <= upper).all():
            best, lowest = candidate, loss
    return best


class Recording:
    """Passes everything on to another objective and remembers which members were evaluated, call by call."""

    def __init__(self, inner: LeastSquares) -> None:
        self.inner = inner
        self.calls: list[tuple[str, list[int]]] = []

    def _record(self, name: str, theta: Tensor, members: Tensor | None) -> None:
        self.calls.append((name, list(range(len(theta))) if members is None else members.tolist()))

    def loss(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        self._record("losses", theta, members)
        return self.inner.loss(theta)

    def gradient(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._record("gradients", theta, members)
        return self.inner.gradient(theta)

    def linearize(self, theta: Tensor, members: Tensor | None = None) -> Linearization:
        self._record("linearizations", theta, members)
        return self.inner.linearize(theta)

    def bounds(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner.bounds(theta)

    def project(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        return self.inner.project(theta)


class WithTerm(LeastSquares):
    """Residuals and a further term that is no sum of squares."""

    def __init__(self, residuals: Callable[[Tensor], Tensor], term: Callable[[Tensor], Tensor]) -> None:
        super().__init__(residuals)
        self.term = term

    def loss(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        return super().loss(theta) + self.term(theta)

    def linearize(self, theta: Tensor, members: Tensor | None = None) -> Linearization:
        squares = super().linearize(theta)
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_()
            term = self.term(leaf)
            (remainder,) = torch.autograd.grad(term.sum(), leaf)
        return Linearization(squares.loss + term.detach(), squares.gradient + remainder, squares.curvature, remainder)
