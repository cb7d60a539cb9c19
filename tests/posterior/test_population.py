"""A population of draws: it reaches posteriors that are known in closed form, and stays there."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import truncnorm

from lit_invert.posterior import population
from lit_invert.posterior.target import unit_bounds
from lit_invert.problem_objective import ProblemObjective
from tests.posterior.linear import covariance_of, linear_mode


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_from_far_away_it_reaches_the_mean_and_covariance_of_a_linear_posterior():
    _, mode = linear_mode()
    start = torch.rand(1, 128, 3, generator=seeded(), dtype=torch.float64) - 2.0
    draws = population.move(mode, start, 60, seeded()).units[0]
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance_of(mode)), (draws - mode.units).T, upper=False)
    # four standard errors, as many draws as members: 1/sqrt(n) of a mean or a covariance, sqrt(2/n) of a variance
    assert (white.mean(1).abs() < 4 / 128**0.5).all()
    error = white @ white.T / 128 - torch.eye(3)
    assert (error.abs() < 4 * torch.where(torch.eye(3) > 0, 2**0.5, 1.0) / 128**0.5).all()


def test_a_bound_cuts_the_posterior_and_nothing_stands_on_it():
    """One free parameter: the cut normal has a closed form."""
    problem, mode = linear_mode(sigma=1.0, offset=4.0, n_static=1)
    lower, upper = (side.item() for side in unit_bounds(problem, mode.theta))
    variance = 1 / mode.precision.item()
    mean = (mode.units[0, 0] - variance * mode.gradient[0, 0]).item()
    exact = truncnorm((lower - mean) / variance**0.5, (upper - mean) / variance**0.5, mean, variance**0.5)
    draws = population.sample(mode, 512, seeded()).units[0, :, 0]
    assert draws.min() > lower
    assert draws.max() < upper
    assert mode.units[0, 0].item() == pytest.approx(upper)  # where the mode stands
    assert draws.mean().item() == pytest.approx(exact.mean(), abs=5 * exact.std() / 512**0.5)
    assert draws.std().item() == pytest.approx(exact.std(), rel=0.15)


def test_as_many_draws_as_asked_for_and_the_same_for_the_same_seed(monkeypatch):
    _, mode = linear_mode()
    monkeypatch.setattr(population, "SETTLE", 5)
    first, second = (population.sample(mode, 100, seeded()) for _ in range(2))
    assert first.units.shape == (1, 100, 3)
    assert torch.equal(first.units, second.units)
    assert 0.1 < first.accepted < 1.0


def test_a_posterior_that_cannot_be_computed_is_never_moved_to():
    _, mode = linear_mode()
    space = population._Coordinates(mode)
    start = torch.zeros(1, 8, 3, dtype=torch.float64)
    assert torch.isinf(space.chi2(torch.full((1, 1, 3), torch.nan, dtype=torch.float64))).all()
    assert population.move(mode, start, 5, seeded()).units.isfinite().all()


def test_members_that_are_simulated_in_parts_move_as_they_do_at_once(monkeypatch):
    _, mode = linear_mode()
    start = torch.zeros(1, 32, 3, dtype=torch.float64)
    whole = population.move(mode, start, 4, seeded())
    monkeypatch.setattr(population, "DAYS_AT_ONCE", 5 * mode.problem.mask.shape[1])  # 16 move: three parts of five, and one
    sizes = []
    simulate = ProblemObjective.loss

    def watch(self, theta):
        sizes.append(len(theta))
        return simulate(self, theta)

    monkeypatch.setattr(ProblemObjective, "loss", watch)
    torch.testing.assert_close(population.move(mode, start, 4, seeded()).units, whole.units)
    assert sizes[-4:] == [5, 5, 5, 1]
