r"""The Laplace approximation: the posterior as the Gaussian that its mode and its curvature there describe, cut to the bounds.

.. math:: u \sim N(\hat u - H^{-1} g, \; H^{-1}), \qquad H = J^T J + I, \qquad l \le u \le h

in prior units u, with the whitened Jacobian J of the data and half the gradient g of minus twice the log posterior. At a mode
inside the bounds g is zero; where a bound holds the mode it is not, and the Gaussian's centre lies beyond the bound, where the
data wanted to go. For a surrogate that is linear in its parameters this is the posterior itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .target import Mode, unit_bounds
from .truncated import CutGaussian

#: Narrowest range of a parameter that is drawn from; one that others' values leave less is as good as fixed [prior sd].
_NARROWEST = 1e-3


def approximate(mode: Mode) -> CutGaussian:
    """Return the Gaussian of each member over its K free parameters in prior units, cut to their bounds."""
    factor = torch.linalg.cholesky(mode.precision)
    newton = torch.cholesky_solve(mode.gradient[..., None], factor).squeeze(-1)
    lower, upper = (side[:, mode.free].expand(newton.shape) for side in unit_bounds(mode.problem, mode.theta))
    upper = upper.maximum(lower + _NARROWEST)
    return CutGaussian(mode.units[:, mode.free] - newton, torch.cholesky_inverse(factor), lower, upper)


def sample_all(mode: Mode, count: int, generator: torch.Generator) -> Tensor:
    """Draw from the posterior of each member.

    Args:
        mode: The modes of B members.
        count: Number of draws.
        generator: Source of randomness, on the CPU.

    Returns:
        A (B, count, P)-dim tensor in prior units, zero at fixed parameters.
    """
    draws = torch.zeros(len(mode.units), count, mode.units.shape[1], dtype=torch.float64)
    draws[..., mode.free] = approximate(mode).sample(count, generator)
    return draws


def sample(mode: Mode, count: int, generator: torch.Generator) -> Tensor:
    """Draw from the posterior of the one member, (count, P), in prior units."""
    return sample_all(mode, count, generator)[0]
