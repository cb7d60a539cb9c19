"""Randomised maximum likelihood: exact where the surrogate is linear, inside the bounds, the same in parts."""

from __future__ import annotations

import pytest
import torch

from lit_invert.posterior import descents, ensemble
from lit_invert.posterior.noise import whiten
from tests.posterior.linear import covariance_of, linear_mode


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_each_member_solves_its_own_linear_problem():
    problem, mode = linear_mode()
    draws = ensemble.sample(problem, mode, 20, seeded())
    generator = seeded()
    centres = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    noise = mode.noise["nep"]
    added = ensemble.perturbed(problem, mode, 20, generator)[..., 2] - problem.observed[..., 2]
    white = whiten(added, torch.ones_like(added, dtype=torch.bool), noise.deviation.expand_as(added), noise.rho.expand(20))
    exact = mode.units + (white @ mode.jacobian[0] + centres) @ covariance_of(mode)
    deviation = covariance_of(mode).diagonal().sqrt()
    assert ((draws - exact).abs() < 0.02 * deviation).all()


def test_draws_of_a_linear_posterior_have_its_mean_and_covariance():
    problem, mode = linear_mode()
    count = 400
    draws = ensemble.sample(problem, mode, count, seeded())
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance_of(mode)), (draws - mode.units).T, upper=False)
    # four standard errors: 1/sqrt(n) of a mean or a covariance, sqrt(2/n) of a variance
    assert (white.mean(1).abs() < 4 / count**0.5).all()
    error = white @ white.T / count - torch.eye(3)
    assert (error.abs() < 4 * torch.where(torch.eye(3) > 0, 2**0.5, 1.0) / count**0.5).all()


def test_bounds_hold_and_collect_the_members_that_they_stop():
    problem, mode = linear_mode(sigma=1.0, offset=4.0)
    draws = ensemble.sample(problem, mode, 200, seeded())
    assert draws.abs().max() <= 3.0  # the toy's bounds are three standard deviations away
    assert (draws.abs() > 3.0 - 1e-9).any(0).sum() >= 1


def test_parts_that_memory_asks_for_change_nothing(monkeypatch):
    problem, mode = linear_mode()
    whole = ensemble.sample(problem, mode, 10, seeded())
    monkeypatch.setattr(descents, "_NUMBERS", 4 * mode.simulated.numel() * 3)
    assert descents.members_at_once(mode) == 4
    assert torch.allclose(ensemble.sample(problem, mode, 10, seeded()), whole, atol=1e-10)


def test_members_that_have_not_arrived_are_left_out(monkeypatch):
    problem, mode = linear_mode()
    monkeypatch.setattr(descents, "_STEPS", 0)
    assert len(ensemble.sample(problem, mode, 5, seeded())) == 0


@pytest.mark.parametrize("count", [0, 4])
def test_the_deepest_of_some_descents_is_never_above_the_mode(count):
    _, mode = linear_mode()
    found = descents.deepest(mode, count, seeded())
    assert mode.problem(found).total.item() <= mode.problem(mode.theta).total.item()
    assert torch.allclose(found, mode.theta, atol=1e-2)
