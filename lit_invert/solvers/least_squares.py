"""An objective from nothing but a function of residuals, so that the solvers serve any least-squares problem."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ..objective import Linearization


class LeastSquares:
    """The sum of squared residuals of a plain function, in an optional box.

    Derivatives come from automatic differentiation, or from central differences if the function does not support it.

    Args:
        residuals: From theta, (B, P), to residuals, (B, N); the rows do not depend on one another.
        lower: Lower bounds, (P,); None: none.
        upper: Upper bounds, (P,); None: none.

    Example:
        >>> from lit_invert.solvers import LevenbergMarquardt, minimize
        >>> day = torch.linspace(0, 4, 9, dtype=torch.float64)
        >>> decay = LeastSquares(lambda theta: theta[:, :1] * torch.exp(-theta[:, 1:] * day) - 3 * torch.exp(-0.5 * day))
        >>> solution = minimize(decay, torch.tensor([[1.0, 1.0]], dtype=torch.float64), LevenbergMarquardt)
        >>> solution.theta.round(decimals=6)
        tensor([[3.0000, 0.5000]], dtype=torch.float64)
    """

    def __init__(self, residuals: Callable[[Tensor], Tensor], *, lower: Tensor | None = None, upper: Tensor | None = None) -> None:
        self.residuals = residuals
        self.lower = torch.tensor(-torch.inf) if lower is None else lower
        self.upper = torch.tensor(torch.inf) if upper is None else upper

    def loss(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return the sum of squares of each member, (b,)."""
        return self.residuals(theta).square().sum(-1)

    def gradient(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the sum of squares, (b,), and its gradient, (b, P)."""
        try:
            return self._pull(theta)
        except RuntimeError:
            # no derivative of some operation, or none at all: a fault of the function itself shows here again
            linear = self.linearize(theta)
        return linear.loss, linear.gradient

    def linearize(self, theta: Tensor, members: Tensor | None = None) -> Linearization:
        """Return loss, gradient and 2 J'J."""
        residuals, jacobian = self.residuals(theta), self.jacobian(theta)
        gradient = 2 * (jacobian.mT @ residuals[..., None])[..., 0]
        return Linearization(residuals.square().sum(-1), gradient, 2 * jacobian.mT @ jacobian)

    def bounds(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the box, (b, P) each."""
        return self.lower.to(theta).expand_as(theta), self.upper.to(theta).expand_as(theta)

    def project(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return theta cut at the bounds."""
        return theta.clamp(*self.bounds(theta))

    def jacobian(self, theta: Tensor) -> Tensor:
        """Return the derivatives of the residuals, (b, N, P)."""
        directions = torch.eye(theta.shape[-1], dtype=theta.dtype, device=theta.device)
        try:
            columns: Tensor = torch.func.vmap(lambda direction: self._along(theta, direction))(directions)
        except RuntimeError:
            # no forward derivative of some operation, or none at all: a fault of the function itself shows here again
            columns = torch.stack([self._difference(theta, direction) for direction in directions])
        return columns.permute(1, 2, 0)

    def _pull(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, (b,), and its gradient, (b, P), by automatic differentiation."""
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_()
            loss = self.loss(leaf)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return loss.detach(), gradient

    def _along(self, theta: Tensor, direction: Tensor) -> Tensor:
        """Return the derivative of all rows along one direction, (b, N)."""
        with warnings.catch_warnings():
            # forward mode's own first use warns about the torch.jit.script that it calls itself
            warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
            derivative: Tensor = torch.func.jvp(self.residuals, (theta,), (direction.expand_as(theta),))[1]
        return derivative

    def _difference(self, theta: Tensor, direction: Tensor) -> Tensor:
        """Return the central difference along one direction, (b, N)."""
        width = torch.finfo(theta.dtype).eps ** (1 / 3) * (1 + (theta * direction).sum(-1, keepdim=True).abs())
        ahead, behind = theta + width * direction, theta - width * direction
        difference: Tensor = (self.residuals(ahead) - self.residuals(behind)) / (2 * width)
        return difference
