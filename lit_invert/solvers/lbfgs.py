r"""L-BFGS with bounds: the curvature is what the last ten steps taught.

The compact form holds a BFGS matrix of m pairs (s, y) as a scaled identity and a few columns,

.. math:: B = \sigma I - W N^{-1} W^T, \quad W = [Y, \sigma S], \quad N = \begin{pmatrix} -D & L^T \\ L & \sigma S^T S \end{pmatrix}

with D and L the diagonal and the strictly lower part of :math:`S^T Y`. Products cost O(P m), and a system in the free coordinates
one of 2m unknowns. So the model's exact minimum in the box is as cheap as the unbounded step, where L-BFGS-B follows a piecewise
linear path and then improves on its end.

Source:
    Byrd, Nocedal and Schnabel (1994), Math. Programming 63, 129-156, doi:10.1007/BF01582063 (the compact form).
    Byrd, Lu, Nocedal and Zhu (1995), SIAM J. Sci. Comput. 16(5), 1190-1208, doi:10.1137/0916069 (L-BFGS-B).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..objective import Objective
from .bounded import Rows
from .secant import SecantSolver
from .stopping import Stopping

#: Pairs whose cosine is smaller than this say nothing reliable about curvature.
LEAST_CURVATURE = 1e-10


@dataclass(frozen=True)
class Compact:
    """A limited-memory BFGS matrix, from pairs scaled so that s'y = 1; an unused pair is zero."""

    steps: Tensor
    """S', (b, m, P), newest last."""
    changes: Tensor
    """Y', (b, m, P)."""
    sigma: Tensor
    """Curvature where no pair knows better, (b,)."""

    def multiply(self, step: Tensor) -> Tensor:
        """Return B d, (b, P)."""
        known = self._wide.mT @ (self._solved @ step[..., None])
        return torch.sub(self.sigma[:, None] * step, known[..., 0])

    def diagonal(self) -> Tensor:
        """Return the diagonal of B, (b, P)."""
        return torch.sub(self.sigma[:, None], (self._wide * self._solved).sum(-2))

    def solve(self, right: Tensor, free: Tensor | None = None) -> Tensor:
        """Solve among the free coordinates (Sherman, Morrison and Woodbury)."""
        sigma, wide = self.sigma[:, None, None], self._wide
        if free is not None:
            right, wide = right * free, wide * free[:, None, :]
        inner = torch.linalg.solve(self._middle - wide @ wide.mT / sigma, wide @ right[..., None])
        solution: Tensor = (right[..., None] + wide.mT @ inner / sigma) / sigma
        return solution[..., 0]

    @cached_property
    def _wide(self) -> Tensor:
        """W', (b, 2m, P)."""
        return torch.cat([self.changes, self.sigma[:, None, None] * self.steps], dim=1)

    @cached_property
    def _middle(self) -> Tensor:
        """N, (b, 2m, 2m)."""
        lower = (self.steps @ self.changes.mT).tril(-1)
        squares = self.sigma[:, None, None] * self.steps @ self.steps.mT
        unused = torch.diag_embed((self.steps == 0).all(-1).to(squares.dtype))
        identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device).expand_as(lower)
        return torch.cat([torch.cat([-identity, lower.mT], -1), torch.cat([lower, squares + unused], -1)], -2)

    @cached_property
    def _solved(self) -> Tensor:
        """The product of N's inverse and W', (b, 2m, P)."""
        solved: Tensor = torch.linalg.solve(self._middle, self._wide)
        return solved


class BoundedLBFGS(SecantSolver):
    """Bounded limited-memory BFGS for B members at once.

    Args:
        params: One parameter theta, (B, P).
        objective: Loss, gradient and bounds.
        memory: Pairs of steps and gradient changes to remember.
        search: Most gradients to one step.
        stopping: Tolerances and time limit.
    """

    _settings = (*SecantSolver._settings, "pairs")

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        objective: Objective,
        *,
        memory: int = 10,
        search: int = 20,
        stopping: Stopping | None = None,
    ) -> None:
        super().__init__(params, objective, search=search, stopping=stopping)
        self.pairs = memory
        self._memory.update(self._unlearned())

    def _unlearned(self) -> dict[str, Tensor]:
        members, parameters = self._theta.shape
        pairs = torch.zeros(members, self.pairs, parameters, dtype=torch.float64, device=self._theta.device)
        return {"steps": pairs, "changes": pairs.clone()}

    def _first(self, rows: Rows, theta: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = self._evaluate_gradient(theta, rows)
        self._remember(rows, sigma=_unit_step(gradient))
        return loss, gradient

    def _metric(self, rows: Rows) -> Compact:
        return Compact(*(self._memory[name][rows.index] for name in ("steps", "changes", "sigma")))

    def _learn(self, rows: Rows, length: Tensor, step: Tensor, change: Tensor) -> None:
        along = (step * change).sum(-1)
        usable = along > LEAST_CURVATURE * step.norm(dim=-1) * change.norm(dim=-1)
        root = along.where(usable, 1.0).sqrt()[:, None]
        for name, value in (("steps", step), ("changes", change)):
            pairs = self._memory[name][rows.index]
            newer = torch.cat([pairs[:, 1:], (value / root)[:, None]], dim=1)
            self._memory[name][rows.index] = newer.where(usable[:, None, None], pairs)
        sigma = (change / root).square().sum(-1)
        self._memory["sigma"][rows.index] = sigma.where(usable, self._memory["sigma"][rows.index])

    def _restart(self, rows: Rows) -> Tensor:
        index = rows.index
        had_pairs: Tensor = self._memory["steps"][index].flatten(1).any(dim=-1)
        self._memory["steps"][index] = 0.0
        self._memory["changes"][index] = 0.0
        self._memory["sigma"][index] = _unit_step(self._memory["gradient"][index])
        return had_pairs


def _unit_step(gradient: Tensor) -> Tensor:
    """Return the curvature with which steepest descent goes a distance of one, as scipy's first step does."""
    length: Tensor = gradient.norm(dim=-1)
    return length.clamp_min(torch.finfo(gradient.dtype).tiny)
