"""Posteriors of the toy surrogate, which is linear in its parameters: with known noise every number has a closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_invert.posterior.noise import Noise
from lit_invert.posterior.target import Mode, find_mode
from lit_invert.problem import InversionProblem
from lit_invert.testing import toy_problem

NEP = 2


def gappy_mask(days: int = 60) -> Tensor:
    """NEP on days in spells with gaps of one day and of ten."""
    mask = torch.zeros(1, days, 4, dtype=torch.bool)
    mask[:, :, NEP] = True
    mask[:, [3, 9, 40], NEP], mask[:, 20:30, NEP] = False, False
    return mask


def known_noise(problem: InversionProblem, sigma: float = 0.5, rho: float = 0.6) -> Noise:
    mask = problem.mask[..., NEP]
    one = torch.ones(len(mask), dtype=torch.float64)
    growth = 1 + 0.5 * torch.linspace(0, 1, mask.shape[1], dtype=torch.float64)
    return Noise(sigma * one, 0 * one, rho * one, sigma * growth.expand(mask.shape), mask)


def noisy_problem(n_static: int = 3, seed: int = 0, sigma: float = 0.5, **options) -> InversionProblem:
    """The toy problem with gaps, and white noise on its observations."""
    problem = toy_problem(n_static, mask=gappy_mask(), **options)
    shocks = torch.randn(problem.observed.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return problem.variant(observed=problem.observed + sigma * shocks)


def dense_covariance(mask: Tensor, deviation: Tensor, rho: float) -> Tensor:
    """Covariance of AR(1) noise on the observed days, (n, n), by its definition."""
    days = mask.nonzero().flatten().double()
    return torch.outer(deviation[mask], deviation[mask]) * rho ** (days[:, None] - days).abs()


def known_mode(problem: InversionProblem, **noise) -> Mode:
    theta = problem.space.to_theta(problem.space.priors)
    return find_mode(problem, theta, "nep", {"nep": known_noise(problem, **noise)})
