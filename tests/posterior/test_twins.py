"""Twin experiments: truths from the cut prior, noise as the record has it, and each twin inverted as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from lit_invert.parameters import ParameterSpace, parse_parameter_table
from lit_invert.posterior import twins as module
from lit_invert.posterior.noise import Noise
from lit_invert.posterior.sampling import sample_laplace
from lit_invert.posterior.target import find_mode
from lit_invert.posterior.twins import draw_noise, draw_prior, invert_twins, make_twins
from lit_invert.testing import toy_problem
from lit_invert.transforms import ScaledTransform


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem_of(*rows):
    """Return the toy problem with a table of one's own."""
    problem = toy_problem(len(rows))
    table = parse_parameter_table(["name,prior,prior_sd,min,max,fixed", *rows])
    transform = ScaledTransform(problem.surrogate.static_scaler, table.bounds)
    problem.space = ParameterSpace(table, transform)
    return problem


def toy_mode(problem):
    return find_mode(problem, problem.space.to_theta(problem.space.priors), "nep")


def test_truths_are_draws_of_the_prior_cut_to_its_bounds():
    problem = problem_of("s1,2.0,0.5,1.75,3.5,false", "s2,2.0,0.5,0.5,3.5,true", "s3,3.0,0.25,0.5,3.5,false")
    truth = draw_prior(problem, 4000, generator())
    expected = truncnorm(-0.5, 3.0), None, truncnorm(-10.0, 2.0)
    assert (truth[:, 1] == 0).all()
    for place in (0, 2):
        ordered = np.sort(truth[:, place].numpy())
        distance = np.abs(expected[place].cdf(ordered) - (np.arange(4000) + 0.5) / 4000).max()
        assert distance < 1.95 / 4000**0.5  # Kolmogorov, one in a thousand


def test_a_bound_that_is_another_parameter_holds():
    problem = problem_of("s1,1.5,0.5,0.5,s2,false", "s2,2.0,0.5,0.5,3.5,false", "s3,2.0,0.5,0.5,3.5,false")
    truth = draw_prior(problem, 500, generator())
    physical = problem.space.to_physical(module.to_theta(problem, truth))
    assert (physical[:, 0] <= physical[:, 1]).all()
    assert (physical[:, 0] == physical[:, 1]).any()


def test_noise_follows_the_twins_own_flux():
    one = torch.ones(1, dtype=torch.float64)
    before = torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64)
    deviation = (0.25 + (0.5 * before).square()).sqrt()
    noise = Noise(0.5 * one, 0.5 * one, 0 * one, deviation, torch.ones_like(deviation, dtype=torch.bool))
    flux = torch.tensor([0.0, 6.0, 2.0], dtype=torch.float64).expand(20000, -1)
    drawn = draw_noise(noise, before, flux, generator())
    expected = torch.tensor([0.25, 0.25 + 9.0, 0.25 + 1.0], dtype=torch.float64)
    torch.testing.assert_close(drawn.square().mean(0), expected, rtol=0.05, atol=0)  # five standard errors


def test_noise_of_a_vanished_flux_keeps_the_floor():
    one = torch.ones(1, dtype=torch.float64)
    noise = Noise(0.2 * one, one, 0 * one, torch.full((1, 1), 0.5, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool))
    drawn = draw_noise(noise, torch.ones(1, 1), torch.zeros(20000, 1, dtype=torch.float64), generator())
    assert drawn.square().mean().item() == pytest.approx(module.NOISE_FLOOR**2, rel=0.05)


def test_twins_have_noise_on_the_fitted_flux_alone():
    problem = toy_problem()
    twins = make_twins(problem, toy_mode(problem), 4, generator())
    clean = twins.simulated
    torch.testing.assert_close(clean, problem.simulate(module.to_theta(problem, twins.truth)))
    changed = (twins.observed != clean).any(dim=(0, 1))
    assert changed.tolist() == [False, False, True, False]
    again = make_twins(problem, toy_mode(problem), 4, generator())
    assert torch.equal(again.observed, twins.observed)


def test_each_twin_is_inverted_as_if_it_were_alone(monkeypatch):
    problem = toy_problem()
    twins = make_twins(problem, toy_mode(problem), 5, generator())
    together = invert_twins(twins, "nep", sample_laplace, 20, generator())
    monkeypatch.setattr(module, "_NUMBERS", 2 * 60 * 4 * 3)
    done = []
    parts = invert_twins(twins, "nep", sample_laplace, 20, generator(), done.append)
    assert done == [2, 4, 5]
    torch.testing.assert_close(parts.mode, together.mode, rtol=0, atol=1e-9)
    torch.testing.assert_close(parts.truth, twins.truth, rtol=0, atol=0)
