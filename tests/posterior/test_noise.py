"""Noise of a flux: whitening against a dense covariance, and numbers that were put in found again."""

from __future__ import annotations

import math

import pytest
import torch

from lit_invert.posterior.noise import NOISE_FLOOR, Noise, effective_days, estimate_noise, whiten
from tests.posterior.posteriors import NEP, dense_covariance, gappy_mask, known_noise, noisy_problem


def test_whitening_agrees_with_a_dense_cholesky_across_gaps():
    problem = noisy_problem()
    mask, noise = problem.mask[..., NEP], known_noise(problem)
    residuals = torch.randn(1, 60, dtype=torch.float64)
    root = torch.linalg.cholesky(dense_covariance(mask[0], noise.deviation[0], float(noise.rho)))
    expected = torch.linalg.solve_triangular(root, residuals[0, mask[0], None], upper=False).squeeze(-1)
    whitened = whiten(residuals, mask, noise.deviation, noise.rho)
    torch.testing.assert_close(whitened[mask], expected, rtol=1e-10, atol=1e-12)
    assert (whitened[~mask] == 0).all()


def test_derivatives_are_whitened_as_the_values_are():
    problem = noisy_problem()
    mask, noise = problem.mask[..., NEP], known_noise(problem)
    values = torch.randn(1, 60, 5, dtype=torch.float64)
    together = whiten(values, mask, noise.deviation, noise.rho)
    for k in range(5):
        torch.testing.assert_close(together[..., k], whiten(values[..., k], mask, noise.deviation, noise.rho), rtol=0, atol=0)


def test_effective_days_are_those_of_the_dense_covariance():
    mask = torch.ones(1, 40, dtype=torch.bool)
    mask[:, 10:15] = False
    rho = 0.7
    dense = torch.linalg.inv(dense_covariance(mask[0], torch.ones(40, dtype=torch.float64), rho)).sum()
    # the information on a mean, with the first day, which has none before it, counted whole in both
    found = effective_days(mask, torch.tensor([rho], dtype=torch.float64))
    assert found.item() == pytest.approx(dense.item(), rel=1e-9)


@pytest.mark.parametrize(("sigma", "share", "rho"), [(0.5, 0.0, 0.0), (1.0, 0.4, 0.7), (0.8, 0.1, 0.4)])
def test_noise_that_was_put_in_is_found_again(sigma, share, rho):
    days, members = 1500, 20
    flux = 3 * torch.sin(torch.arange(days) / 58).expand(members, -1).double()
    mask = torch.rand(members, days, generator=torch.Generator().manual_seed(1)) < 0.6
    deviation = (sigma**2 + (share * flux) ** 2).sqrt()
    one = torch.ones(1, dtype=torch.float64)
    given = Noise(sigma * one, share * one, rho * one, deviation[:1], torch.ones_like(deviation[:1], dtype=torch.bool))
    residuals = given.draw(members, torch.Generator().manual_seed(2))
    found = estimate_noise(residuals, flux, mask)
    assert found.sigma.mean().item() == pytest.approx(sigma, rel=0.05)
    assert found.share.mean().item() == pytest.approx(share, abs=0.06)
    assert found.rho.mean().item() == pytest.approx(rho, abs=0.03)
    assert found.deviation.mean().item() == pytest.approx(deviation.mean().item(), rel=0.05)
    assert (found.n == mask.sum(-1)).all()


def test_draws_have_the_standard_deviation_and_the_memory_of_their_noise():
    one = torch.ones(1, dtype=torch.float64)
    noise = Noise(one, one, 0.6 * one, torch.linspace(0.5, 2.0, 50, dtype=torch.float64)[None], torch.ones(1, 50, dtype=torch.bool))
    draws = noise.draw(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.std(0), noise.deviation[0], rtol=0.03, atol=0)
    assert torch.corrcoef(draws[:, [10, 12]].T)[0, 1].item() == pytest.approx(0.36, abs=0.03)


def test_what_the_parameters_have_taken_is_given_back():
    residuals, mask = torch.randn(1, 400, dtype=torch.float64), torch.ones(1, 400, dtype=torch.bool)
    flux = torch.zeros_like(residuals)
    plain, paid = estimate_noise(residuals, flux, mask), estimate_noise(residuals, flux, mask, spent=torch.tensor([100.0]))
    assert (paid.sigma / plain.sigma).item() == pytest.approx(math.sqrt(400 / 300), rel=1e-6)


def test_a_perfect_fit_has_the_noise_of_the_floor_and_no_memory():
    residuals, mask = torch.zeros(1, 60, dtype=torch.float64), gappy_mask()[..., NEP]
    found = estimate_noise(residuals, residuals, mask)
    assert found.sigma.item() == NOISE_FLOOR
    assert torch.isfinite(found.deviation).all()
    assert found.n_eff > 0


def test_each_member_of_a_batch_is_estimated_alone():
    residuals = torch.randn(3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [[0.5], [1.0], [3.0]]
    )
    mask, flux = torch.rand(3, 200) < 0.7, torch.ones(3, 200, dtype=torch.float64)
    together = estimate_noise(residuals, flux, mask)
    for i in range(3):
        alone = estimate_noise(residuals[i : i + 1], flux[i : i + 1], mask[i : i + 1])
        for name in ("sigma", "share", "rho", "n_eff"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name)[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("n", "fitted"), [(14, 7), (30, 12)])
def test_independent_noise_stays_independent_when_parameters_took_half_of_it(n, fitted):
    generator = torch.Generator().manual_seed(1)
    design = torch.linalg.qr(torch.randn(200, n, fitted, generator=generator, dtype=torch.float64)).Q
    noise = 0.5 * torch.randn(200, n, 1, generator=generator, dtype=torch.float64)
    residuals = (noise - design @ (design.transpose(1, 2) @ noise))[..., 0]
    every = torch.ones(200, n, dtype=torch.bool)
    found = estimate_noise(residuals, torch.zeros(200, n), every, spent=torch.full((200,), float(fitted)))
    assert found.rho.median() == 0.0
    assert found.sigma.median().item() == pytest.approx(0.5, rel=0.15)
