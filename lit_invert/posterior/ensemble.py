r"""Randomised maximum likelihood: draws from the posterior, each the optimum of a fit to other data.

Member m sees observations with a draw of their noise :math:`\epsilon` on top and a prior whose centre is a draw from the prior, and
minimises

.. math:: \chi^2(f(\theta) - o - \epsilon_m) + |u - c_m|^2, \qquad c_m \sim N(0, I)

inside the bounds. Where the surrogate is linear over the width of the posterior and no bound holds, the optima are exact draws from
it; elsewhere they bend with the surrogate, which a linearisation at the mode cannot. A bound collects the members that it stops, so
that draws stand on it where a density has a cut tail beside it. Constraints of plugins keep their weight and are not perturbed.

All members are one batch of independent fits that start at the mode; long records go through in parts that memory bounds.

Sources:
    Oliver, He and Reynolds (1996), Conditioning permeability fields to pressure data, ECMOR V, for the algorithm.
    Kitanidis (1995), Water Resour. Res. 31(10), 2411-2419, doi:10.1029/95WR01396, for the linear case.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..losses.base import index_of
from ..problem import InversionProblem
from ..problem_objective import ProblemObjective
from .descents import descend, members_at_once
from .target import Mode, posterior_problem, to_units

#: Two falls of the loss in a row by less than this share of it end the fit of a member.
_SMALL_FALL = 1e-4


def sample(problem: InversionProblem, mode: Mode, count: int, generator: Generator) -> Tensor:
    """Draw from the posterior of one site by randomised maximum likelihood.

    Args:
        problem: The problem of the fit.
        mode: The mode of its posterior, from which each member starts.
        count: Number of members.
        generator: Source of randomness, on the CPU.

    Returns:
        Draws in prior units, (M, P), float64: those members that converged, zero at fixed parameters. Where M is less than `count`
        the others did not.
    """
    centres = torch.randn(count, mode.units.shape[1], generator=generator, dtype=torch.float64)
    observed = perturbed(problem, mode, count, generator)
    members = members_at_once(mode)
    parts = [_fit(problem, mode, *part) for part in zip(observed.split(members), centres.split(members), strict=True)]
    draws = torch.zeros_like(torch.cat(parts))
    draws[:, mode.free] = torch.cat(parts)[:, mode.free]
    return draws


def perturbed(problem: InversionProblem, mode: Mode, count: int, generator: Generator) -> Tensor:
    """Return observations with draws of their noise on top, (count, T, V) [gC m-2 d-1]."""
    observed = problem.observed.repeat(count, 1, 1)
    for name, noise in mode.noise.items():
        place = index_of(name, problem.surrogate.spec.output_names, "output of the surrogate")
        observed[..., place] += noise.draw(count, generator).to(observed)
    return observed


def _fit(problem: InversionProblem, mode: Mode, observed: Tensor, centres: Tensor) -> Tensor:
    """Return the optima of the members that converged, (m, P), in prior units."""
    posterior = posterior_problem(problem.variant(observed=observed), mode.noise, centres)
    theta, arrived = descend(ProblemObjective(posterior), mode.theta.repeat(len(observed), 1), _SMALL_FALL)
    return to_units(posterior, theta)[arrived]
