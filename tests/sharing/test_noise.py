"""How much a misfit is worth, on residuals whose memory and variance are known."""

from __future__ import annotations

import pytest
import torch

from lit_invert.errors import ConfigError
from lit_invert.losses import LossTerm
from lit_invert.sharing.noise import LEAST_ERROR, MOST_MEMORY, memory_of, scale_of
from tests.sharing.towers import toy_sites


def autoregressive(memory, sites, days):
    """Residuals of unit variance that remember the last day."""
    steps = torch.randn(sites, days, dtype=torch.float64)
    residuals = [steps[:, 0]]
    for step in steps[:, 1:].unbind(1):
        residuals.append(memory * residuals[-1] + (1 - memory**2) ** 0.5 * step)
    return torch.stack(residuals, 1)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_memory_is_found_whatever_the_size_of_a_sites_residuals_and_through_gaps(memory):
    residuals = autoregressive(memory, 50, 400) * torch.logspace(-2, 2, 50, dtype=torch.float64)[:, None]
    residuals[:, 7::19] = 0.0
    # standard error of a correlation: the root of (1 - memory^2) / pairs, some 18000 here
    assert memory_of(residuals).item() == pytest.approx(memory, abs=3.5 * ((1 - memory**2) / 18_000) ** 0.5 + 1e-3)


def test_a_memory_is_between_nothing_and_what_is_believed():
    ramp = torch.ones(1, 50, dtype=torch.float64)
    assert memory_of(ramp).item() == MOST_MEMORY
    assert memory_of(ramp * torch.tensor([1.0, -1.0]).repeat(25)).item() == 0.0


def test_the_scale_is_the_variance_of_the_mean_of_white_noise():
    truth = torch.zeros(200, 2, dtype=torch.float64)
    problem = toy_sites(truth, noise=0.5, days=200)
    scale = scale_of(problem, truth, torch.zeros(200))
    # 40000 days: the variance is known to 0.7 %, the memory to 0.005, which counts twice
    assert scale.mean().item() == pytest.approx(0.5**2 / 200, rel=0.03)


def test_a_memory_makes_the_days_count_less():
    truth = torch.zeros(40, 2, dtype=torch.float64)
    problem = toy_sites(truth, days=300)
    problem.observed[..., 2] += autoregressive(0.8, 40, 300)
    found = scale_of(problem, truth, torch.zeros(40)).mean().item()
    mean_of_residuals = (problem.observed - toy_sites(truth, days=300).observed)[..., 2].mean(1)
    assert found == pytest.approx((1 / 300) * (1.8 / 0.2), rel=0.15)
    assert found == pytest.approx(mean_of_residuals.var().item(), rel=0.6)  # 40 means: 3 standard errors of their variance


def test_degrees_of_freedom_that_are_used_up_are_taken_off():
    problem = toy_sites(torch.zeros(1, 2), noise=0.5, days=50)
    theta = torch.zeros(1, 2, dtype=torch.float64)
    none, ten = (scale_of(problem, theta, torch.tensor([k])).item() for k in (0.0, 10.0))
    residuals = problem.loss_terms[0].residuals(problem.evaluate(theta))
    memory = memory_of(residuals).item()
    days = 50 * (1 - memory) / (1 + memory)
    assert none / ten == pytest.approx((days - 10) / days, rel=1e-9)


def test_a_fit_without_error_is_not_believed():
    problem, theta = toy_sites(torch.zeros(1, 2), days=50), torch.zeros(1, 2, dtype=torch.float64)
    assert scale_of(problem, theta, torch.zeros(1)).item() >= LEAST_ERROR**2 / 50


class Odd(LossTerm):
    name = "misfit"

    def forward(self, evaluation):
        return evaluation.simulated.abs().mean((1, 2))


def test_a_misfit_without_residuals_is_no_likelihood():
    problem = toy_sites(torch.zeros(1, 2), terms=[Odd()])
    with pytest.raises(ConfigError, match=r"hierarchical parameters need a loss term `misfit` that declares residuals"):
        scale_of(problem, torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1))
