"""BFGS that starts from the Gauss-Newton matrix: one linearisation, then gradients only.

A linearisation costs several gradients and knows all of the curvature that first derivatives give; a gradient knows one more
direction of it. So the matrix is linearised once, and from then on each step's gradient keeps it up to date. When the search fails,
or takes only a small part of the step, the matrix is wrong: it is linearised anew, with more damping.

Source:
    Nocedal and Wright (2006), Numerical optimization, 2nd edition, section 6.1 and procedure 18.2 (damped update).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..objective import Objective
from .bounded import Rows
from .box import Dense
from .secant import SecantSolver
from .stopping import Stopping
from .unseen import LEAST_SCALE, lift_unseen

#: Least share of the old curvature along a step that an update keeps (Powell).
KEPT_CURVATURE = 0.2
#: Part of a step below which the matrix that asked for it counts as wrong.
STALLED = 0.05
#: Factor by which each new linearisation is damped more, and the damping at which a member is given up.
MORE_DAMPING, MOST_DAMPING = 10.0, 1e6


class QuasiNewton(SecantSolver):
    """Bounded BFGS with a dense matrix, seeded with the Gauss-Newton matrix, for B members at once.

    Args:
        params: One parameter theta, (B, P).
        objective: Loss, gradient, linearisation and bounds.
        damping: Share of its diagonal that is added to the first Gauss-Newton matrix [-].
        search: Most gradients to one step.
        stopping: Tolerances and time limit.
    """

    _settings = (*SecantSolver._settings, "damping")

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        objective: Objective,
        *,
        damping: float = 0.1,
        search: int = 20,
        stopping: Stopping | None = None,
    ) -> None:
        super().__init__(params, objective, search=search, stopping=stopping)
        self.damping = damping
        self._memory.update(self._unlearned())

    def _unlearned(self) -> dict[str, Tensor]:
        return {"damping": torch.full_like(self._memory["loss"], self.damping)}

    def _first(self, rows: Rows, theta: Tensor) -> tuple[Tensor, Tensor]:
        return self._seed(rows, theta)

    def _look_first(self, theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        linear = self.objective.linearize(theta, rows.members)
        return linear.loss, linear.gradient

    def _metric(self, rows: Rows) -> Dense:
        return Dense(self._memory["hessian"][rows.index])

    def _learn(self, rows: Rows, length: Tensor, step: Tensor, change: Tensor) -> None:
        self._memory["hessian"][rows.index] = damped_update(self._memory["hessian"][rows.index], step, change)
        stalled = (length < STALLED) & self.running[rows.index]
        if stalled.any():
            self._restart(rows.only(stalled))

    def _restart(self, rows: Rows) -> Tensor:
        damping = self._memory["damping"][rows.index] * MORE_DAMPING
        self._memory["damping"][rows.index] = damping
        hopeful: Tensor = damping <= MOST_DAMPING
        if hopeful.any():
            chosen = rows.only(hopeful)
            self._seed(chosen, self._copy(chosen))
        return hopeful

    def _seed(self, rows: Rows, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Linearise, keep the damped Gauss-Newton matrix, return loss and gradient."""
        linear = self._linearize(theta, rows)
        loss, gradient = linear.loss.double(), linear.gradient.double()
        hessian = lift_unseen(linear.curvature.double(), gradient)
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        floor = LEAST_SCALE * diagonal.amax(-1, keepdim=True) + torch.finfo(torch.float64).tiny
        hessian = hessian + torch.diag_embed(self._memory["damping"][rows.index][:, None] * diagonal.maximum(floor))
        self._remember(rows, hessian=hessian)
        return loss, gradient


def damped_update(hessian: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """Return the BFGS matrix after a step, kept positive definite by Powell's damping.

    Args:
        hessian: The old matrix B, (b, P, P), positive definite.
        step: s, (b, P).
        change: y, the change of the gradient, (b, P).

    Returns:
        The new matrix, (b, P, P), positive definite, with B s = y wherever y's >= 0.2 s'Bs.
    """
    product = (hessian @ step[..., None])[..., 0]
    old, along = (step * product).sum(-1), (step * change).sum(-1)
    share = torch.where(along >= KEPT_CURVATURE * old, 1.0, (1 - KEPT_CURVATURE) * old / (old - along))[:, None]
    change = share * change + (1 - share) * product
    change = change / (step * change).sum(-1, keepdim=True).sqrt()
    product = product / old.sqrt()[:, None]
    return hessian + change[:, :, None] * change[:, None, :] - product[:, :, None] * product[:, None, :]
