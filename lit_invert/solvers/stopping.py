"""When a member is finished, and how that is said.

Three tests tell convergence, each relative, so that none depends on the unit of the loss: nothing is left to gain (gradient), theta
no longer moves (step), the loss no longer falls (loss). A member that no trial improves has converged, too, if none promised more
than the loss can tell (promise), and is stuck otherwise; one whose time is up has stopped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor


class Status(IntEnum):
    """Why a member is finished, if it is."""

    RUNNING = 0
    GRADIENT = 1
    STEP = 2
    LOSS = 3
    STUCK = 4
    TIME = 5
    PROMISE = 6
    LEFT = 7

    @property
    def verb(self) -> str:
        """What happened, in a word."""
        return {Status.RUNNING: "running", Status.STUCK: "stuck", Status.TIME: "stopped", Status.LEFT: "left"}.get(
            self, "converged"
        )


@dataclass(frozen=True)
class Stopping:
    r"""Relative tolerances of the three tests of convergence, and a time limit.

    With loss :math:`L`, gradient :math:`g`, curvature :math:`H`, step :math:`d` and tolerances :math:`\epsilon`, a member has
    converged

    - by gradient, if moving any one parameter alone to its best place in the box promises no more than :math:`\epsilon_g^2 |L|`:
      :math:`\max_i -(g_i d_i + H_{ii} d_i^2 / 2) \le \epsilon_g^2 |L|` at :math:`d_i = -g_i / H_{ii}` cut at the bounds. Without
      bounds and for a sum of squares that is MINPACK's test, the cosine of the angle between residuals and Jacobian's columns;
    - by step, if :math:`\|d\| \le \epsilon_s (\epsilon_s + \|\theta\|)`, where d is the step that the solver's model asked for: one
      that had to be cut because the model was wrong says nothing;
    - by loss, if two steps in a row each lowered it by no more than :math:`\epsilon_l |L|`.

    Args:
        gradient: Tolerance of the gradient test [-].
        step: Tolerance of the step test [-].
        loss: Tolerance of the loss test [-]; never less than the rounding of the loss.
        max_seconds: Wall time after which all members stop [s]; None: no limit.

    Source:
        Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory, doi:10.1007/BFb0067700.
    """

    gradient: float = 1e-5
    step: float = 1e-6
    loss: float = 1e-7
    max_seconds: float | None = None

    @property
    def tolerances(self) -> dict[str, float]:
        """Tolerances of the three tests."""
        return {"gradient": self.gradient, "step": self.step, "loss": self.loss}

    def is_flat(self, loss: Tensor, gradient: Tensor, diagonal: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Test the gradient of each member.

        Args:
            loss: (b,).
            gradient: (b, P).
            diagonal: Diagonal of the curvature, (b, P), not negative.
            lower: Room below theta, (b, P), not positive.
            upper: Room above theta, (b, P), not negative.

        Returns:
            Whether each has converged, (b,).
        """
        tiny = torch.finfo(diagonal.dtype).tiny
        step = (-gradient / diagonal.clamp_min(tiny)).clamp(lower, upper)
        promise = -step * torch.addcmul(gradient, diagonal, step, value=0.5)
        # a parameter without curvature or bounds promises more than a number can hold
        promise = torch.where(promise.isfinite(), promise, torch.inf)
        return promise.amax(-1) <= self.gradient**2 * loss.abs()

    def is_short(self, step: Tensor, theta: Tensor) -> Tensor:
        """Test the step of each member from theta, (b, P) each."""
        short: Tensor = step.norm(dim=-1) <= self.step * (self.step + theta.norm(dim=-1))
        return short

    def is_small(self, decrease: Tensor, loss: Tensor, dtype: torch.dtype) -> Tensor:
        """Test whether a decrease, (b,), is nothing beside the loss, which was computed in `dtype`."""
        return decrease <= max(self.loss, 2 * torch.finfo(dtype).eps) * loss.abs()

    def reason(self, status: Status) -> str:
        """Say why a member with this status is finished."""
        return {
            Status.RUNNING: "no test of convergence is met yet",
            Status.GRADIENT: f"the gradient is flat: no parameter alone can lower the loss by {self.gradient**2:.0e} of itself",
            Status.STEP: f"the step was shorter than {self.step:.0e} of theta",
            Status.LOSS: f"the loss changed by less than {self.loss:.0e} of itself in two steps",
            Status.STUCK: "no trial step lowered the loss",
            Status.TIME: f"the limit of {self.max_seconds} s was reached",
            Status.LEFT: "the caller took no further step",
            Status.PROMISE: f"no step promises to lower the loss by more than its rounding or {self.loss:.0e} of itself",
        }[status]


def describe(stopping: Stopping, status: Tensor, iterations: Tensor) -> str:
    """Say in one sentence where a solver stands.

    Args:
        stopping: Its tolerances.
        status: A :class:`Status` for each member, (B,).
        iterations: Steps that each member took, (B,).

    Example:
        >>> describe(Stopping(), torch.tensor([3]), torch.tensor([9]))
        'converged after 9 iterations: the loss changed by less than 1e-07 of itself in two steps'
        >>> describe(Stopping(), torch.tensor([3, 1, 4]), torch.tensor([9, 7, 8]))
        '3 members after 7 to 9 iterations: 1 converged (gradient), 1 converged (loss), 1 stuck'
    """
    each = [Status(code) for code in status.tolist()]
    steps = iterations.tolist()
    if len(each) == 1:
        plural = "" if steps[0] == 1 else "s"
        return f"{each[0].verb} after {steps[0]} iteration{plural}: {stopping.reason(each[0])}"
    counts = ", ".join(f"{count} {_brief(status)}" for status, count in sorted(Counter(each).items()))
    return f"{len(each)} members after {min(steps)} to {max(steps)} iterations: {counts}"


def _brief(status: Status) -> str:
    return f"{status.verb} ({status.name.lower()})" if status.verb == "converged" else status.verb
