"""NUTS: exact for a linear surrogate, inside the bounds, reproducible; and its diagnostics."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.stats import norm

from lit_invert.errors import ConfigError
from lit_invert.posterior import nuts
from lit_invert.posterior.target import unit_bounds
from tests.posterior.linear import covariance_of, linear_mode


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_chains_of_a_linear_posterior_have_its_mean_and_covariance():
    _, mode = linear_mode()
    chains = nuts.sample_chains(mode, 120, seeded(), warm_up=40)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance_of(mode)), (chains.draws - mode.units).T, upper=False)
    count = chains.ess.min().item()
    assert count > 100
    assert chains.rhat.max() < 1.05
    assert chains.divergences == 0
    assert (white.mean(1).abs() < 4 / count**0.5).all()
    error = white @ white.T / white.shape[1] - torch.eye(3)
    assert (error.abs() < 4 * torch.where(torch.eye(3) > 0, 2**0.5, 1.0) / count**0.5).all()


def test_a_prior_that_is_cut_by_its_bounds_is_drawn_with_its_cut_tails():
    _, mode = linear_mode(sigma=500.0)  # the data say nothing
    lower, upper = unit_bounds(mode.problem, mode.theta)
    draws = nuts.sample_chains(mode, 120, seeded(), warm_up=40).draws
    assert ((draws > lower) & (draws < upper)).all()
    inner = (draws.abs() < 1.0).double().mean(0)
    share = norm.cdf(1) - norm.cdf(-1)
    assert (inner - share).abs().max() < 4 * (share * (1 - share) / 120) ** 0.5


def test_the_coordinates_have_the_volume_that_they_say():
    _, mode = linear_mode(sigma=1.0, offset=4.0)
    coordinates = nuts.coordinates_at(mode)
    z = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda at: coordinates.to_units(at)[0], z)
    constant = coordinates.width.log().sum() + coordinates.factor.diagonal().log().sum()
    assert torch.linalg.det(jacobian).log().item() == pytest.approx((coordinates.to_units(z)[1] + constant).item(), abs=1e-10)


def test_the_coordinates_make_the_potential_flat_and_round_at_zero():
    _, mode = linear_mode(sigma=1.0, offset=4.0)  # the mode stands on a bound
    potential = nuts._Potential(mode, nuts.coordinates_at(mode))
    zero = torch.zeros(3, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(lambda z: potential({"z": z}), zero)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
    step = torch.eye(3, dtype=torch.float64)
    curvature = [potential({"z": h}) + potential({"z": -h}) - 2 * potential({"z": zero}) for h in 0.1 * step]
    np.testing.assert_allclose(curvature, 0.01, rtol=0.05)  # as of a standard normal


def test_the_same_seed_draws_the_same_and_leaves_torch_alone(monkeypatch):
    monkeypatch.setattr(nuts, "WARM_UP", 5)
    _, mode = linear_mode()
    state = torch.get_rng_state()
    first, second = (nuts.sample(mode, 7, seeded()) for _ in range(2))
    assert first.shape == (7, 3)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_diagnostics_tell_chains_that_do_not_mix():
    noise = torch.randn(2, 200, 2, generator=seeded(), dtype=torch.float64)
    good, _ = nuts.diagnose(noise)
    apart, ess = nuts.diagnose(noise + torch.tensor([0.0, 3.0])[:, None, None])
    assert good.max() < 1.05
    assert apart.min() > 1.5
    assert ess.max() < 20


def test_bounds_that_name_parameters_are_refused():
    _, mode = linear_mode()
    bounds = mode.problem.space.transform.bounds
    mode.problem.space.transform.bounds = type(bounds)(bounds.lower, bounds.upper, [-1, 0, -1], [-1, -1, -1])
    with pytest.raises(ConfigError, match="bounds that name other parameters"):
        nuts.sample(mode, 10, seeded())


def test_without_pyro_the_error_says_what_to_install(monkeypatch):
    _, mode = linear_mode()
    monkeypatch.setitem(sys.modules, "pyro.infer", None)
    with pytest.raises(ConfigError, match=r'pip install "lit-invert\[nuts\]"'):
        nuts.sample(mode, 10, seeded())
