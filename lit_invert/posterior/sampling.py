"""Draws from the posteriors of a batch of members, by any method.

The Laplace approximation and moving populations draw for all members at once, the others a member after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Generator, Tensor

from ..problem import InversionProblem
from . import ensemble, laplace, nuts, population
from .target import Mode, posterior_problem

Sampler = Callable[[InversionProblem, Mode, int, Generator], Tensor]
"""From the problem of B members, their modes, a number of draws and a source of randomness to draws in prior units, (B, M, P)."""


def sample_laplace(problem: InversionProblem, mode: Mode, count: int, generator: Generator) -> Tensor:
    """Draw from the Gaussians at the modes, cut to the bounds."""
    return laplace.sample_all(mode, count, generator)


def sample_population(problem: InversionProblem, mode: Mode, count: int, generator: Generator) -> Tensor:
    """Draw by moving populations, all members at once."""
    return population.sample(mode, count, generator).units


def sample_rml(problem: InversionProblem, mode: Mode, count: int, generator: Generator) -> Tensor:
    """Draw by randomised maximum likelihood, member by member."""
    members = range(len(mode.theta))
    return torch.stack([_fill(ensemble.sample(*one_member(problem, mode, i), count, generator), count) for i in members])


def sample_nuts(problem: InversionProblem, mode: Mode, count: int, generator: Generator) -> Tensor:
    """Draw with the no-U-turn sampler, member by member."""
    members = range(len(mode.theta))
    return torch.stack([nuts.sample(one_member(problem, mode, i)[1], count, generator) for i in members])


#: Every method, by the name that a config gives it.
SAMPLERS: dict[str, Sampler] = {
    "laplace": sample_laplace,
    "population": sample_population,
    "rml": sample_rml,
    "nuts": sample_nuts,
}


def one_member(problem: InversionProblem, mode: Mode, member: int) -> tuple[InversionProblem, Mode]:
    """Return the problem and the mode of one member of a batch whose records differ and whose weather is one."""
    rows = slice(member, member + 1)
    alone = problem.variant(observed=problem.observed[rows], mask=problem.mask[rows])
    noise = {name: one.only(torch.tensor([member])) for name, one in mode.noise.items()}
    tensors = ("theta", "units", "jacobian", "others", "gradient", "simulated")
    own = {name: getattr(mode, name)[rows] for name in tensors}
    return alone, replace(mode, problem=posterior_problem(alone, noise), noise=noise, **own)


def _fill(draws: Tensor, count: int) -> Tensor:
    """Repeat draws where some of those asked for did not converge."""
    return draws[torch.arange(count) % len(draws)]
