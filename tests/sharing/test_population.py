"""Mean and spread of Gaussian sites, against the likelihood itself."""

from __future__ import annotations

import pytest
import torch

from lit_invert.sharing.population import MeanPrior, Summary, degrees_of_freedom, fit_population

NOTHING = MeanPrior(torch.zeros(2, 2).double(), torch.zeros(2).double())
WIDE = (torch.full((2,), 1e-6).double(), torch.full((2,), 1e3).double())


def gaussian_sites(sites=24, spread=(0.7, 0.3)):
    """Estimates of sites of two groups, with precisions of their own that mix both parameters."""
    root = torch.randn(sites, 5, 2, dtype=torch.float64) * (1 + 3 * torch.rand(sites, 1, 1, dtype=torch.float64))
    precision, group = root.mT @ root, torch.arange(sites) % 2
    mean = torch.tensor([[1.0, -1.0], [2.0, 0.5]], dtype=torch.float64)[group]
    truth = mean + torch.randn(sites, 2).double() * torch.tensor(spread).double()
    error = torch.linalg.cholesky(torch.linalg.inv(precision)) @ torch.randn(sites, 2, 1).double()
    return precision, truth + error[..., 0], group


def restricted_likelihood(precision, estimate, group, spread):
    """Minus twice its logarithm, up to a constant, by dense matrices: generalised least squares of the means."""
    covariance = torch.linalg.inv(precision) + torch.diag(spread**2)
    total = torch.logdet(covariance).sum()
    for one in group.unique():
        mine = group == one
        weight = torch.linalg.inv(covariance[mine])
        mean = torch.linalg.solve(weight.sum(0), (weight @ estimate[mine][..., None]).sum(0))
        off = estimate[mine][..., None] - mean
        total = total + (off.mT @ weight @ off).sum() + torch.logdet(weight.sum(0))
    return total


def test_the_spread_is_where_the_restricted_likelihood_is_highest():
    precision, estimate, group = gaussian_sites()
    summary = Summary(precision, (precision @ estimate[..., None])[..., 0], group)
    found = fit_population(summary, NOTHING, torch.ones(2).double(), WIDE)
    spread = found.spread.clone().requires_grad_()
    away = (1.3 * found.spread).requires_grad_()
    slopes = [torch.autograd.grad(restricted_likelihood(precision, estimate, group, at), at)[0] for at in (spread, away)]
    assert slopes[0].abs().max() < 1e-3 * slopes[1].abs().max()


def test_the_means_are_those_of_generalised_least_squares():
    precision, estimate, group = gaussian_sites()
    kept = torch.tensor([0.5, 0.2]).double()
    summary = Summary(precision, (precision @ estimate[..., None])[..., 0], group)
    found = fit_population(summary, NOTHING, kept, (kept, kept))
    weight = torch.linalg.inv(torch.linalg.inv(precision) + torch.diag(kept**2))
    for one in range(2):
        mine = group == one
        mean = torch.linalg.solve(weight[mine].sum(0), (weight[mine] @ estimate[mine][..., None]).sum(0))
        torch.testing.assert_close(found.center[one], mean[:, 0])
    assert torch.equal(found.spread, kept)


def test_a_strong_prior_holds_the_means():
    precision, estimate, group = gaussian_sites()
    summary = Summary(precision, (precision @ estimate[..., None])[..., 0], group)
    believed = MeanPrior(torch.tensor([[3.0, 4.0], [5.0, 6.0]]).double(), torch.full((2,), 1e9).double())
    found = fit_population(summary, believed, torch.ones(2).double(), WIDE)
    torch.testing.assert_close(found.center, believed.center, rtol=1e-6, atol=0)


def test_equal_sites_have_the_least_spread():
    precision, _, group = gaussian_sites()
    same = torch.tensor([1.0, -1.0]).double().expand(24, 2)
    found = fit_population(Summary(precision, (precision @ same[..., None])[..., 0], group), NOTHING, torch.ones(2).double(), WIDE)
    assert (found.spread < 1e-4).all()
    torch.testing.assert_close(found.center, same[:2], rtol=0, atol=1e-6)


def test_one_site_a_group_says_nothing_of_the_spread():
    precision, estimate, _ = gaussian_sites(2)
    summary = Summary(precision, (precision @ estimate[..., None])[..., 0], torch.tensor([0, 1]))
    found = fit_population(summary, NOTHING, torch.tensor([0.4, 0.6]).double(), WIDE)
    torch.testing.assert_close(found.spread, torch.tensor([0.4, 0.6]).double())
    torch.testing.assert_close(found.center, estimate)


def test_a_direction_that_no_data_see_does_no_harm():
    precision = torch.diag(torch.tensor([4.0, 0.0])).double().repeat(3, 1, 1)
    shift = torch.tensor([[4.0, 0.0], [8.0, 0.0], [12.0, 0.0]]).double()
    kept = torch.ones(2).double()
    prior = MeanPrior(torch.zeros(1, 2).double(), torch.zeros(2).double())
    found = fit_population(Summary(precision, shift, torch.zeros(3, dtype=torch.long)), prior, kept, (kept, kept))
    torch.testing.assert_close(found.center, torch.tensor([[2.0, 0.0]]).double())


def test_degrees_of_freedom_are_all_where_the_data_are_sure_and_none_where_the_population_is():
    precision = torch.tensor([[[4.0, 1.0], [1.0, 3.0]]]).double()
    some = torch.trace(precision[0] @ torch.linalg.inv(precision[0] + torch.diag(torch.tensor([1 / 0.25, 1 / 4.0]).double())))
    assert degrees_of_freedom(precision, torch.tensor([0.5, 2.0]).double()).item() == pytest.approx(some.item())
    assert degrees_of_freedom(1e12 * precision, torch.ones(2).double()).item() == pytest.approx(2.0)
    assert degrees_of_freedom(precision, torch.full((2,), 1e-9).double()).item() == pytest.approx(0.0, abs=1e-12)
