r"""The loss of all sites as a function of what they share.

.. math:: F(\gamma) = \sum_s \min_{l_s} L_s(\gamma, l_s)

Each site answers a proposal for the shared vector with the best local parameters that it has. At that answer the slope of L along
the local parameters is zero, or they rest on a bound, so the gradient of F is that of L with the answer held still (the envelope
theorem). Its curvature is what is left when the answer follows,

.. math:: \nabla^2 F = \sum_s \left( C_{gg} - C_{gl} C_{ll}^{-1} C_{lg} \right),

the Schur complement of each site's Gauss-Newton matrix C over its free local parameters. So G shared values are fitted by any
solver of this package with the work of a few fits of the sites, side by side, and nothing of the size of all parameters is built.
This is variable projection, for a sum of problems.

Where `torch.distributed` runs, each process holds sites of its own. Loss, gradient and curvature are summed over the processes,
hence all take the same step.

Source:
    Golub and Pereyra (2003), Inverse Problems 19(2), R1-R26, doi:10.1088/0266-5611/19/2/201 (variable projection).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed

from ..errors import ConfigError, ShapeError
from ..kernels.frozen import is_same, rows_of
from ..objective import Linearization
from ..problem import InversionProblem, Loss
from ..problem_objective import ProblemObjective
from ..solvers import LevenbergMarquardt, minimize
from .plan import SharingPlan
from .terms import count_priors_once

#: Most steps of the sites' local parameters to one proposal for the shared ones: few sites that have far to go must not keep the
#: others waiting, and go on at the next proposal.
LOCAL_STEPS = 5
#: The same at the end.
LAST_STEPS = 100


class SharedObjective:
    """The objective of the shared vector, a single member of G parameters.

    Args:
        problem: The problem of the sites; its prior counts shared values once here, see
            :func:`~lit_invert.sharing.terms.count_priors_once`.
        plan: How they share parameters: the whole plan, or the rows of this process.
        sites: Which members of the problem the plan's sites are, (S,); None: all, in order.
        is_bounded: Whether parameters must stay inside the table's bounds.
        start: Where the local parameters start, (S, P); at their priors when omitted.

    Raises:
        ShapeError: If plan and problem have different numbers of sites.
        ConfigError: If bounds that name other parameters are not kept by the transform.
    """

    def __init__(
        self,
        problem: InversionProblem,
        plan: SharingPlan,
        sites: Tensor | None = None,
        is_bounded: bool = True,
        start: Tensor | None = None,
    ) -> None:
        _check(problem, plan, sites, is_bounded)
        self.plan = plan
        self.problem = count_priors_once(problem, plan, sites)
        self._sites = HeldSites(self.problem, plan.is_shared, is_bounded, sites)
        theta = priors_of(problem, sites) if start is None else start
        self._valley = _Valley(theta, torch.zeros_like(theta).diag_embed())
        self._settled: tuple[Tensor, Tensor] | None = None

    def forget(self) -> None:
        """Forget every answer, because the weight of a term has changed."""
        self._settled = None
        self._sites.forget()

    def settle(self, gamma: Tensor) -> Tensor:
        """Return the parameters of all sites, with the local ones where the loss of their site is lowest.

        Args:
            gamma: The shared vector, (1, G).

        Returns:
            A (S, P)-dim tensor.
        """
        if self._settled is None or not is_same(self._settled[0], gamma):
            self._move_to(gamma.device)
            start = self._valley.follow(self._spread(gamma, self._valley.theta))
            self._settled = gamma.detach().clone(), self._improve(start, gamma, LOCAL_STEPS)
        return self._settled[1]

    def finish(self, gamma: Tensor) -> Tensor:
        """Return the same with the sites that have far to go at their end, too."""
        theta = self._improve(self.settle(gamma), gamma, LAST_STEPS)
        self._settled = gamma.detach().clone(), theta
        return theta

    def _improve(self, theta: Tensor, gamma: Tensor, steps: int) -> Tensor:
        if not bool(self._sites.free(theta, torch.zeros_like(theta)).any()):
            return theta
        found = minimize(self._sites, theta, LevenbergMarquardt, max_iters=steps).theta
        return self._spread(gamma, found)  # to the last bit, which clipping may have moved

    @torch.no_grad()
    def loss(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return the loss of all sites, (1,)."""
        (total,) = _sum_over_processes(self.loss_of_sites(theta).double().sum())
        return total[None]

    @torch.no_grad()
    def loss_of_sites(self, theta: Tensor) -> Tensor:
        """Return the loss of each site of this process, (S,)."""
        return self._sites.loss(self.settle(theta))

    @torch.no_grad()
    def loss_at(self, theta: Tensor) -> Loss:
        """Return the loss of all sites term by term, (1,) each; the evaluation has this process's sites as its members."""
        loss = self._sites.loss_at(self.settle(theta))
        values = _sum_over_processes(*(value.double().sum() for value in (*loss.terms.values(), *loss.weighted.values())))
        numbers, count = [value.to(theta)[None] for value in values], len(loss.terms)
        terms, weighted = (dict(zip(loss.terms, part, strict=True)) for part in (numbers[:count], numbers[count:]))
        return Loss(torch.stack(list(weighted.values())).sum(0), terms, weighted, loss.evaluation)

    def gradient(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss, (1,), and its gradient, (1, G)."""
        settled = self.settle(theta)
        self._valley = _Valley(settled, self._valley.response)
        loss, gradient = self._sites.gradient(settled)
        total, slope = _sum_over_processes(loss.double().sum(), self.plan.gather(gradient.double()))
        return total[None], slope[None]

    @torch.no_grad()
    def linearize(self, theta: Tensor, members: Tensor | None = None) -> Linearization:
        """Return loss, gradient and curvature, with the local parameters following."""
        settled = self.settle(theta)
        linear = self._sites.linearize(settled)
        reduced = eliminate(linear.gradient, linear.curvature, self._sites.free(settled, linear.gradient))
        self._valley = _Valley(settled, reduced.response.to(settled))
        has_remainder = linear.remainder is not None
        loss, gradient, curvature, remainder = _sum_over_processes(
            linear.loss.double().sum(),
            self.plan.gather(reduced.gradient),
            self.plan.gather_matrix(reduced.curvature),
            self.plan.gather(reduced.gradient if linear.remainder is None else linear.remainder.double()),
        )
        return Linearization(loss[None], gradient[None], curvature[None], remainder[None] if has_remainder else None)

    def bounds(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the bounds of the shared values, (1, G) each; every site has the same."""
        self._move_to(theta.device)
        lower, upper = self._sites.table_bounds(self._valley.theta[:1])
        return lower[:, self.plan.component], upper[:, self.plan.component]

    def project(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return the shared vector cut at its bounds."""
        return theta.clamp(*self.bounds(theta))

    def _spread(self, gamma: Tensor, local: Tensor) -> Tensor:
        return self.plan.spread(gamma.detach()[0], local)

    def _move_to(self, device: torch.device) -> None:
        """Follow the shared vector to a device."""
        if self.plan.group.device != device:
            self.plan, self._sites.held = self.plan.to(device), self._sites.held.to(device)
            self._valley = _Valley(*(part.to(device) for part in self._valley))


class Reduced(NamedTuple):
    """What is left of a linearisation of S sites when their free parameters follow the others, in float64."""

    gradient: Tensor
    """(S, P), zero for the parameters that follow."""
    curvature: Tensor
    """(S, P, P), zero in their rows and columns."""
    response: Tensor
    """How those that follow change with the others, (S, P, P): a row each that follows, a column each that does not."""


def eliminate(gradient: Tensor, curvature: Tensor, free: Tensor) -> Reduced:
    """Eliminate the free parameters of each site from its quadratic model, by the Schur complement.

    What is left of their own slope is taken into account, so that they need not be exactly at their lowest point.

    Args:
        gradient: (S, P).
        curvature: Gauss-Newton matrices, (S, P, P).
        free: True for the parameters to eliminate, (S, P).

    Example:
        >>> curvature = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]])
        >>> eliminate(torch.tensor([[3.0, 0.0]]), curvature, torch.tensor([[False, True]])).curvature
        tensor([[[1.5000, 0.0000],
                 [0.0000, 0.0000]]], dtype=torch.float64)
    """
    rounding = curvature.shape[-1] * torch.finfo(curvature.dtype).eps
    gradient, curvature = gradient.double(), curvature.double()
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    lifted = curvature + torch.diag_embed(torch.where(diagonal > 0, rounding * diagonal, 1.0))
    identity = torch.eye(free.shape[1], dtype=curvature.dtype, device=curvature.device)
    factor, failed = torch.linalg.cholesky_ex(torch.where(free[:, :, None] & free[:, None, :], lifted, identity))
    cross = curvature * (free[:, :, None] & ~free[:, None, :])
    response = torch.cholesky_solve(-cross, factor) * (failed == 0)[:, None, None]
    kept = curvature * (~free[:, :, None] & ~free[:, None, :])
    return Reduced(
        gradient * ~free + (response.mT @ gradient[..., None])[..., 0],
        kept + cross.mT @ response,
        response,
    )


def priors_of(problem: InversionProblem, sites: Tensor | None = None) -> Tensor:
    """Return the prior of each site in the optimiser's coordinates, (S, P)."""
    theta = problem.space.to_theta(problem.space.priors)
    return theta.expand(len(problem.mask), -1).clone() if sites is None else rows_of(theta, sites).expand(len(sites), -1).clone()


class _Valley(NamedTuple):
    """Where the sites stood at the last linearisation, and how they move on."""

    theta: Tensor
    """(S, P)."""
    response: Tensor
    """Change of the local parameters with the shared ones, (S, P, P)."""

    def follow(self, theta: Tensor) -> Tensor:
        """Return theta, (S, P), whose shared parameters have moved, with the local ones where the model has its valley."""
        return theta + (self.response @ (theta - self.theta)[..., None])[..., 0]


class HeldSites(ProblemObjective):
    """The sites' own problems, with their shared parameters held where they are."""

    def __init__(self, problem: InversionProblem, held: Tensor, is_bounded: bool, rows: Tensor | None) -> None:
        super().__init__(problem, is_bounded, rows)
        self.held = held

    def bounds(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return bounds that close around what is held, (b, P) each."""
        lower, upper = super().bounds(theta, members)
        return torch.where(self.held, theta, lower), torch.where(self.held, theta, upper)

    def table_bounds(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bounds of the first site with nothing held, (1, P) each."""
        return super().bounds(theta, torch.zeros(1, dtype=torch.long, device=theta.device))

    def free(self, theta: Tensor, gradient: Tensor) -> Tensor:
        """Return which parameters can follow, (S, P): not held or fixed, and not pressed against a bound."""
        lower, upper = self.bounds(theta)
        pressed = ((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))
        return (lower < upper) & ~pressed


def _check(problem: InversionProblem, plan: SharingPlan, sites: Tensor | None, is_bounded: bool) -> None:
    count = len(problem.mask) if sites is None else len(sites)
    if count != plan.sites:
        raise ShapeError(f"sharing: the plan has {plan.sites} sites, the problem {count}. Give both for the same sites.")
    if is_bounded and not problem.space.is_box:
        raise ConfigError(
            "`sharing`: shared parameters move inside bounds of their own, but the table has bounds that name other parameters. "
            "Use `constraints.transform: sigmoid`, which keeps them by itself."
        )


def _sum_over_processes(*parts: Tensor) -> list[Tensor]:
    """Return the sums of each tensor over all processes, in one message; of one process, the tensors themselves."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return list(parts)
    message = torch.cat([part.flatten() for part in parts])
    distributed.all_reduce(message)
    pieces = message.split([part.numel() for part in parts])
    return [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]
