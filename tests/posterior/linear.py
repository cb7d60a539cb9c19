"""A posterior with a closed form: the toy surrogate, which is linear, under known noise."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_invert.posterior.noise import Noise
from lit_invert.posterior.target import Mode, find_mode
from lit_invert.problem import InversionProblem
from lit_invert.testing import toy_problem


def linear_mode(sigma: float = 0.5, offset: float = 0.0, n_static: int = 3) -> tuple[InversionProblem, Mode]:
    """Return the toy problem, its observations raised by an offset, and the mode of its posterior."""
    problem = toy_problem(n_static)
    problem = problem.variant(observed=problem.observed + offset)
    mask, rho = problem.mask[..., 2], torch.tensor([0.4], dtype=torch.float64)
    deviation = torch.full(mask.shape, sigma, dtype=torch.float64)
    noise = Noise(deviation[:, 0], 0 * rho, rho, deviation, mask)
    return problem, find_mode(problem, problem.space.to_theta(problem.space.priors), "nep", {"nep": noise})


def covariance_of(mode: Mode) -> Tensor:
    """Return the covariance of the posterior without bounds, (K, K)."""
    return torch.linalg.inv(mode.precision[0])
