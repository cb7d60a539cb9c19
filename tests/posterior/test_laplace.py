"""The Laplace approximation against the closed form of a linear-Gaussian problem, and at a bound."""

from __future__ import annotations

import pytest
import torch

from lit_invert.losses import LossTerm, SquaredTerm
from lit_invert.posterior import laplace
from lit_invert.posterior.target import find_mode, linearise, posterior_problem, to_theta, unit_bounds
from tests.posterior.posteriors import NEP, dense_covariance, known_mode, known_noise, noisy_problem


def closed_form(problem, noise):
    """Mean and covariance in prior units, with R built densely and J by finite differences of a linear simulation."""
    units = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    simulated = problem.simulate(to_theta(problem, units))[..., NEP]
    mask = problem.mask[0, :, NEP]
    jacobian = (simulated[1:] - simulated[0]).T[mask]
    weight = torch.linalg.inv(dense_covariance(mask, noise.deviation[0], float(noise.rho)))
    covariance = torch.linalg.inv(jacobian.T @ weight @ jacobian + torch.eye(3, dtype=torch.float64))
    return covariance @ jacobian.T @ weight @ (problem.observed[0, mask, NEP] - simulated[0, mask]), covariance


def test_a_linear_problem_has_the_closed_form_mean_and_covariance():
    problem = noisy_problem()
    mean, covariance = closed_form(problem, known_noise(problem))
    found = laplace.approximate(known_mode(problem))
    torch.testing.assert_close(found.mean[0], mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.covariance[0], covariance, rtol=1e-5, atol=1e-8)


def test_draws_have_the_same_moments_where_no_bound_is_near():
    problem = noisy_problem()
    mean, covariance = closed_form(problem, known_noise(problem))
    draws = laplace.sample(known_mode(problem), 20_000, torch.Generator().manual_seed(0))
    assert ((draws.mean(0) - mean).abs() < 5 * (covariance.diagonal() / 20_000).sqrt()).all()
    torch.testing.assert_close(torch.cov(draws.T), covariance, rtol=0.05, atol=0.02 * covariance.diagonal().min().item())


def test_the_gaussian_does_not_depend_on_where_the_surrogate_was_linearised():
    problem = noisy_problem()
    noise = {"nep": known_noise(problem)}
    away = to_theta(problem, torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64))
    elsewhere = laplace.approximate(linearise(posterior_problem(problem, noise), away, noise))
    mode = laplace.approximate(find_mode(problem, away, "nep", noise))
    torch.testing.assert_close(elsewhere.mean, mode.mean, rtol=0, atol=1e-6)


def test_beyond_a_bound_the_centre_is_where_the_data_wanted_to_go():
    problem = noisy_problem(sigma=0.02)
    unbounded = known_mode(problem, sigma=0.02).units[0]
    problem.space.bounds.lower = 2 + 0.5 * (unbounded + 0.4)  # all above what the data say
    mode = known_mode(problem, sigma=0.02)
    low, _ = unit_bounds(problem, mode.theta)
    assert (mode.units - low).abs().max() < 1e-9
    assert (mode.gradient > 0).any()
    torch.testing.assert_close(laplace.approximate(mode).mean[0], unbounded, rtol=0, atol=1e-6)
    assert (laplace.sample(mode, 500, torch.Generator().manual_seed(0)) >= low).all()


class Pull(SquaredTerm):
    """Draws the first parameter to 3, as a plugin's constraint might."""

    name = "pull"

    def residuals(self, evaluation):
        return evaluation.physical[:, :1] - 3.0


class Push(LossTerm):
    """The same, without saying that it is a square."""

    name = "push"

    def forward(self, evaluation):
        return (evaluation.physical[:, 0] - 3.0).square()


def test_constraints_of_plugins_move_the_mode_and_declared_ones_narrow_it():
    problem = noisy_problem()
    plain = known_mode(problem)
    pulled, pushed = (known_mode(problem.variant(terms=[*problem.loss_terms, term])) for term in (Pull(), Push()))
    for mode in (pulled, pushed):
        assert mode.units[0, 0] > plain.units[0, 0]
        assert mode.gradient.abs().max() < 1e-3
    torch.testing.assert_close(pulled.units, pushed.units, rtol=0, atol=1e-3)
    weight = next(term.weight for term in pulled.problem.loss_terms if term.name == "pull")
    assert (pulled.precision - plain.precision)[0, 0, 0].item() == pytest.approx(weight * 0.5**2, rel=1e-6)
    torch.testing.assert_close(pushed.precision, plain.precision, rtol=1e-6, atol=1e-9)


def test_a_fixed_parameter_stays_at_its_prior():
    problem = noisy_problem()
    problem.space._fixed[1] = True
    draws = laplace.sample_all(known_mode(problem), 30, torch.Generator().manual_seed(0))
    assert draws.shape == (1, 30, 3)
    assert (draws[..., 1] == 0).all()
    assert (draws[..., [0, 2]].std(1) > 0).all()
