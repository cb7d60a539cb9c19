"""Draws from cut Gaussians against closed forms, and against scipy."""

from __future__ import annotations

import math

import pytest
import torch

from lit_invert.posterior.truncated import CutGaussian

COUNT = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cut(mean, covariance, lower, upper) -> CutGaussian:
    vectors = (torch.tensor([value], dtype=torch.float64) for value in (mean, covariance, lower, upper))
    return CutGaussian(*vectors)


@pytest.mark.parametrize(
    ("mean", "deviation", "lower", "upper"),
    [(0.0, 1.0, -1.0, 2.0), (0.5, 2.0, 0.0, math.inf), (4.0, 1.0, -math.inf, 1.0), (-3.0, 0.5, -2.0, 2.0)],
)
def test_one_dimension_has_the_moments_of_scipy(mean, deviation, lower, upper):
    stats = pytest.importorskip("scipy.stats")
    draws = cut([mean], [[deviation**2]], [lower], [upper]).sample(COUNT, generator())[0, :, 0]
    expected = stats.truncnorm((lower - mean) / deviation, (upper - mean) / deviation, mean, deviation)
    assert abs(draws.mean().item() - expected.mean()) < 5 * expected.std() / math.sqrt(COUNT / 4)
    assert draws.std().item() == pytest.approx(expected.std(), rel=0.03)
    assert draws.min() >= lower
    assert draws.max() <= upper
    for share in (0.05, 0.5, 0.95):
        assert expected.cdf(draws.quantile(share).item()) == pytest.approx(share, abs=0.015)


def test_a_correlated_pair_in_a_quadrant_has_the_closed_form_mean():
    rho = 0.8
    draws = cut([0.0, 0.0], [[1.0, rho], [rho, 1.0]], [0.0, 0.0], [math.inf, math.inf]).sample(COUNT, generator())[0]
    share = 0.25 + math.asin(rho) / (2 * math.pi)
    expected = (1 + rho) / (2 * math.sqrt(2 * math.pi) * share)
    assert draws.mean(0).tolist() == pytest.approx([expected] * 2, abs=0.02)
    # of the second moments: E[x y] = rho + sqrt(1 - rho^2) / (2 pi share)
    assert (draws[:, 0] * draws[:, 1]).mean().item() == pytest.approx(rho + math.sqrt(1 - rho**2) / (2 * math.pi * share), abs=0.04)


def test_stiff_directions_and_loose_ones_agree_with_rejection():
    jacobian = torch.tensor([[20.0, 20.0, 0.0], [0.0, 3.0, -3.0]], dtype=torch.float64)
    covariance = torch.linalg.inv(jacobian.T @ jacobian + torch.eye(3, dtype=torch.float64))[None]
    mean, side = torch.tensor([[0.4, -0.3, 0.1]], dtype=torch.float64), torch.full((1, 3), 0.8, dtype=torch.float64)
    draws = CutGaussian(mean, covariance, -side, side).sample(COUNT, generator())[0]
    free = mean + torch.randn(400_000, 3, generator=generator(1), dtype=torch.float64) @ torch.linalg.cholesky(covariance[0]).T
    kept = free[(free.abs() <= 0.8).all(-1)]
    error = kept.std(0) * (4 / COUNT) ** 0.5
    assert ((draws.mean(0) - kept.mean(0)).abs() < 4 * error).all()
    torch.testing.assert_close(torch.cov(draws.T), torch.cov(kept.T), rtol=0.05, atol=2e-3)


def test_each_member_of_a_batch_has_its_own_box():
    mean = torch.tensor([[0.0, 0.0], [5.0, -5.0]], dtype=torch.float64)
    covariance = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    lower, upper = mean - torch.tensor([[0.1], [3.0]]), mean + torch.tensor([[0.2], [4.0]])
    draws = CutGaussian(mean, covariance, lower, upper).sample(300, generator())
    assert draws.shape == (2, 300, 2)
    assert (draws >= lower[:, None]).all()
    assert (draws <= upper[:, None]).all()
    assert draws[0].std(0).max() < 0.1 < draws[1].std(0).min()


def test_draws_of_a_wide_box_are_independent_of_one_another():
    draws = CutGaussian(
        torch.zeros(1, 2, dtype=torch.float64),
        torch.eye(2, dtype=torch.float64)[None],
        torch.full((1, 2), -torch.inf),
        torch.full((1, 2), torch.inf),
    ).sample(10_000, generator())[0]
    one, other = draws.view(10, 1000, 2)[1:], draws.view(10, 1000, 2)[:-1]  # chains are side by side
    assert (one * other).mean((0, 1)).abs().max() < 5 / math.sqrt(9000)


def test_the_same_seed_gives_the_same_draws():
    box = cut([0.0], [[1.0]], [-1.0], [1.0])
    assert torch.equal(box.sample(7, generator(3)), box.sample(7, generator(3)))
