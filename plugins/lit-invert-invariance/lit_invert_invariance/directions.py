r"""The directions of parameter space that observations determine.

A month of one flux determines few of many parameters; the others are free to differ and mean nothing. In coordinates u of one prior
standard deviation each, the directions are eigenvectors v of the Fisher information of the misfit alone,

.. math:: F = \frac{J^T J}{s^2}, \qquad s^2 = \overline{r^2} \, \frac{1 + \rho}{1 - \rho}

whose eigenvalue :math:`\lambda` is above one: there the data say more than the prior. J are the derivatives of the residuals r by
u, and :math:`\rho` their correlation from one day to the next, for days that resemble each other count less. Since the prior's
information is one along every direction, the posterior's standard deviation along v is :math:`(1 + \lambda)^{-1/2}`.

A posterior (:mod:`lit_invert.posterior`) has a noise model of its own, by maximum likelihood and growing with the flux. A window
of a month is too short for one, and may be fitted badly: its moments are enough for which directions to compare, and never fail.
Prior units and the noise floor are the posterior's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_invert import InversionProblem
from lit_invert.losses import Misfit
from lit_invert.posterior.target import by_units

from .gradients import STEP, TANGENT_TOLERANCE
from .points import prior_point
from .simulation import in_precision

#: Smallest standard deviation of a residual that a month of days is believed [gC m-2 d-1].
NOISE_FLOOR = 0.2
#: Largest correlation of residuals that is believed: fewer days than a dozen cannot tell it from one.
_LARGEST_CORRELATION = 0.9


@dataclass(frozen=True)
class Directions:
    """Eigenvectors of the Fisher information of B members."""

    vectors: Tensor
    """A (B, P, P)-dim tensor with an eigenvector a column; zero along fixed parameters."""
    eigenvalues: Tensor
    """Information along each, in units of the prior's, ascending, (B, P) [-]."""

    def distance(self, before: Tensor, after: Tensor) -> Tensor:
        r"""Return how far apart two estimates of each member are.

        .. math:: \sqrt{\frac{1}{K} \sum_k (1 + \lambda_k) \left( v_k^T (u' - u) \right)^2}

        over the K directions with :math:`\lambda_k > 1`.

        Args:
            before: Estimates in prior standard deviations, (B, P) [-].
            after: Others, likewise.

        Returns:
            RMS distance in standard deviations of the posterior, (B,) [-]; NaN where the data determine nothing.
        """
        along = torch.einsum("bpk,bp->bk", self.vectors, (after - before).double())
        squares = torch.where(self.eigenvalues > 1, (1 + self.eigenvalues) * along.square(), 0.0)
        return (squares.sum(-1) / (self.eigenvalues > 1).sum(-1)).sqrt()


@torch.no_grad()
def find_directions(problem: InversionProblem, misfit: Misfit, theta: Tensor) -> Directions:
    """Find the directions at the estimates of B members.

    Args:
        problem: The problem of the members.
        misfit: Its misfit; other terms say nothing of the data.
        theta: Estimates, (B, P).
    """
    evaluation, tangent, free = problem.push(theta)
    residuals = misfit.residuals(evaluation).double()
    slopes = tangent.scaled[..., free].double() / problem.space.prior_sd_scaled[..., free].double()
    jacobian = by_units(misfit.push_residuals(evaluation, tangent), slopes)
    days = problem.mask[..., evaluation.outputs.index(misfit.target)].sum(-1)
    information = days[:, None, None] * jacobian.transpose(1, 2) @ jacobian / residual_variance(residuals)[:, None, None]
    whole = information.new_zeros(len(theta), theta.shape[1], theta.shape[1])
    whole[:, free[:, None], free] = torch.where(information.isfinite().all(-1, keepdim=True), information, 0.0)
    eigenvalues, vectors = torch.linalg.eigh(whole)
    return Directions(vectors, eigenvalues)


def residual_variance(residuals: Tensor) -> Tensor:
    """Return the variance that the residuals of each member stand for, (B,) [(gC m-2 d-1)^2].

    Their mean square, times what the correlation from day to day takes from the number of days; never less than the noise floor.

    Args:
        residuals: Residuals whose squares sum to the mean square, zero on days without an observation, (B, N) [gC m-2 d-1].

    Example:
        >>> residual_variance(torch.tensor([[0.5, -0.5, 0.5, -0.5], [0.1, 0.0, 0.0, 0.0]]))
        tensor([1.0000, 0.0400])
    """
    known = residuals != 0
    pairs = (known[:, 1:] & known[:, :-1]).sum(-1).clamp_min(1)
    square = residuals.square().sum(-1)
    lagged = (residuals[:, 1:] * residuals[:, :-1]).sum(-1) / pairs
    each = square / known.sum(-1).clamp_min(1)
    rho = torch.where(each > 0, lagged / each, 0.0).clamp(0.0, _LARGEST_CORRELATION)
    return (square * (1 + rho) / (1 - rho)).clamp_min(NOISE_FLOOR**2)


@torch.no_grad()
def derivatives_hold(problem: InversionProblem, misfit: Misfit, seed: int) -> bool:
    """Say whether the derivatives of the target that a solver is given at the prior are those of what is simulated.

    Compares them on the observed days, along one random direction, with a difference quotient in float64. Where they are not, no
    estimate can be had; which is at fault is another question. A surrogate that does not compute in float64 is trusted.

    Args:
        problem: The problem, of one member.
        misfit: It names the target.
        seed: Of the direction.
    """
    simulate = in_precision(problem, torch.float64)
    if simulate is None:
        return True
    point = prior_point(problem)
    step = STEP * torch.randn(point.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    _, tangent = problem.simulator.push(point, (step / STEP).to(point)[:, None])
    quotient = (simulate(point.double() + step) - simulate(point.double() - step)) / (2 * STEP)
    target = problem.surrogate.spec.output_names.index(misfit.target)
    observed = problem.mask[0, :, target]
    pushed, expected = (values[..., target][..., observed].double().flatten() for values in (tangent.squeeze(-1), quotient))
    known = expected.isfinite()
    return bool((pushed - expected)[known].norm() <= TANGENT_TOLERANCE * expected[known].norm())
