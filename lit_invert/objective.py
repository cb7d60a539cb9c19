r"""What a solver asks of a problem: losses, gradients and linearisations of B members at once, in a box.

A *member* is one unknown vector of P parameters, a row of theta: a start, a site, a bootstrap sample. Members share nothing but
the call, so a solver can stop asking about one while the others go on: it then hands over the rows that still run and, as
`members`, which rows of the whole they are. Solvers see a problem through :class:`Objective` alone and know nothing of
surrogates, forcing or Lightning; whoever has another problem gives them another objective.

A loss that is a sum of squared residuals r has the Hessian :math:`2 J^T J + 2 \sum_i r_i \nabla^2 r_i`. Its first part, the
Gauss-Newton part, needs first derivatives only and is what a :class:`Linearization` holds. Terms of the loss that are no sum of
squares have no such part; their gradient is kept apart so that a solver can learn their curvature from its changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Linearization:
    """The loss around one theta for each member, as far as first derivatives tell."""

    loss: Tensor
    """The whole loss, (B,) [-]."""
    gradient: Tensor
    """Its gradient, (B, P)."""
    curvature: Tensor
    """Gauss-Newton part of its Hessian, (B, P, P): 2 J'J over all residuals, weights included."""
    remainder: Tensor | None = None
    """Gradient of the terms without residuals, (B, P); None when there are none."""


class Objective(Protocol):
    """A loss over a box, for members that do not depend on one another.

    In each method `theta` holds the parameters of b members, (b, P), and `members` their indices among all B, (b,); None stands for
    all of them. No result is attached to an autograd graph.
    """

    def loss(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return the loss of each member, (b,)."""
        ...

    def gradient(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss, (b,), and its gradient, (b, P)."""
        ...

    def linearize(self, theta: Tensor, members: Tensor | None = None) -> Linearization:
        """Return loss, gradient and Gauss-Newton curvature."""
        ...

    def bounds(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds in the coordinates of theta, (b, P) each; infinite where there is none."""
        ...

    def project(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return theta moved into its bounds, which may depend on the other parameters."""
        ...
