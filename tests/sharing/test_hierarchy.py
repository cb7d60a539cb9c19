"""Populations of twin sites whose mean and spread are known."""

from __future__ import annotations

import pytest
import torch

from lit_invert.errors import ConfigError
from lit_invert.losses import Misfit, Prior
from lit_invert.parameters import parse_parameter_table
from lit_invert.sharing import HierarchicalFit, SharedObjective, fit_hierarchy, fit_plan, fit_shared
from lit_invert.transforms import SigmoidTransform
from tests.sharing.towers import plan_of, toy_sites

MEAN, SPREAD = torch.tensor([0.5, -0.4, 0.2]).double(), torch.tensor([0.4, 0.3, 0.8]).double()
SITES = 60


def drawn(sites=SITES):
    return MEAN + SPREAD * torch.randn(sites, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def rms(values):
    return values.square().mean().sqrt().item()


@pytest.fixture(scope="module")
def few_days():
    """Sixty sites with twelve noisy days each: the truth, the hierarchical fit, and that of each site alone."""
    truth = drawn()
    problem = toy_sites(truth, noise=0.5, days=12)
    together = fit_hierarchy(problem, plan_of(["hierarchical"] * 3, ["a"] * SITES))
    return truth, together, fit_shared(problem, plan_of(["site"] * 3, ["a"] * SITES)).theta


def test_mean_and_spread_are_recovered_within_their_sampling_error():
    truth = drawn()
    found = fit_hierarchy(toy_sites(truth, noise=0.5, days=120), plan_of(["hierarchical"] * 3, ["a"] * SITES))
    error = 0.5 * torch.linalg.inv(_information(days=120)).diagonal().sqrt()  # of one site's estimate
    of_mean = ((SPREAD**2 + error**2) / SITES).sqrt()
    of_spread = (SPREAD**2 + error**2) / (SPREAD * (2 * SITES) ** 0.5)
    assert ((found.population.center[0] - MEAN).abs() < 2.5 * of_mean).all()
    assert ((found.population.spread - SPREAD).abs() < 2.5 * of_spread).all()
    assert found.status.startswith("converged")


def _information(days):
    """The mean of J'J over sites: what noise of one leaves known of a site."""
    problem = toy_sites(torch.zeros(SITES, 3).double(), days=days)
    jacobian = problem.push(torch.zeros(SITES, 3).double())[1].simulated[:, :, 2]
    return (jacobian.mT @ jacobian).mean(0)


def test_sites_with_few_days_are_better_known_together_than_alone(few_days):
    truth, together, alone = few_days
    assert rms(together.theta - truth) < 0.6 * rms(alone - truth)
    assert rms(together.theta - truth) < 0.9 * rms(MEAN - truth)  # and better than by their mean alone


def test_the_noise_of_the_twins_is_found(few_days):
    assert few_days[1].scale.mean().item() == pytest.approx(0.5**2 / 12, rel=0.25)


def test_without_spread_the_sites_of_a_group_have_one_value_weighted_by_their_likelihood():
    truth, groups = drawn(8), list("aabbaabb")
    problem = toy_sites(truth, noise=0.5, days=40, terms=[Misfit()])
    plan, kept = plan_of(["hierarchical"] * 3, groups), torch.full((3,), 1e-4).double()
    found = fit_hierarchy(problem, plan, spread=kept)
    assert (found.theta - found.population.center[plan.group]).abs().max() < 1e-3
    # the toy is linear: the least squares of each group, stacked
    zero = torch.zeros(8, 3).double()
    evaluation, tangent, _ = problem.push(zero)
    jacobian, off = tangent.simulated[:, :, 2], (problem.observed - evaluation.simulated)[..., 2]
    weight = (found.scale * 40).sqrt().reciprocal()[:, None]
    for group in (0, 1):
        mine = plan.group == group
        rows, right = (jacobian * weight[..., None])[mine].flatten(0, 1), (off * weight)[mine].flatten()
        expected = torch.linalg.lstsq(rows, right).solution
        torch.testing.assert_close(found.population.center[group], expected, rtol=0, atol=1e-3)


def test_without_spread_equal_towers_have_what_the_kind_group_gives_them():
    problem = toy_sites(torch.full((4, 3), 0.3).double(), noise=0.5)
    same = torch.tensor([0, 0, 0, 0])
    twins = type(problem)(
        problem.surrogate,
        problem.space,
        problem.forcing[same],
        problem.observed[same],
        problem.mask[same],
        [Misfit(), Prior(weight=0.05)],
    )
    groups, kept = list("aabb"), torch.full((1,), 1e-3).double()
    found = fit_hierarchy(twins, plan_of(["hierarchical", "global", "site"], groups), spread=kept)
    expected = fit_shared(twins, plan_of(["group", "global", "site"], groups))
    torch.testing.assert_close(found.theta, expected.theta, rtol=0, atol=1e-3)


def test_with_endless_spread_sites_are_fitted_apart():
    problem = toy_sites(drawn(8), noise=0.5)
    groups, endless = list("aabbaabb"), torch.full((2,), 1e4).double()
    found = fit_hierarchy(problem, plan_of(["hierarchical", "global", "hierarchical"], groups), spread=endless)
    expected = fit_shared(problem, plan_of(["site", "global", "site"], groups))
    torch.testing.assert_close(found.theta, expected.theta, rtol=0, atol=1e-5)


def test_all_kinds_together():
    truth = drawn(40)
    groups = ["oak" if site % 2 else "pine" for site in range(40)]
    truth[:, 0], truth[:, 1] = 0.7, torch.where(torch.arange(40) % 2 == 1, 0.5, -0.5).double()
    truth = torch.cat([truth, torch.randn(40, 1, generator=torch.Generator().manual_seed(2)).double()], 1)
    problem = toy_sites(truth, noise=0.3, days=60)
    plan = plan_of(["global", "group", "hierarchical", "site"], groups)
    found = fit_plan(problem, plan)
    assert isinstance(found, HierarchicalFit)
    curvature = SharedObjective(problem, plan, start=found.theta).linearize(found.gamma[None]).curvature[0]
    error = (torch.linalg.inv(curvature).diagonal() * 2 * 0.3**2 / 60).sqrt()
    assert ((found.gamma - torch.tensor([0.7, 0.5, -0.5])).abs() < 2.5 * error).all()
    assert error.max() < 0.1
    assert found.population.spread.item() == pytest.approx(0.8, rel=0.3)  # 40 sites know it to a ninth
    assert (found.theta[:, 2] - truth[:, 2]).std() < 0.25


def test_another_transform_of_the_same_parameters_has_the_same_population():
    truth = 0.3 + 0.4 * torch.randn(20, 2, generator=torch.Generator().manual_seed(9)).double()
    plan = plan_of(["hierarchical", "site"], ["a"] * 20)
    scaled, sigmoid = (
        fit_hierarchy(toy_sites(truth, noise=0.3, **choice), plan) for choice in ({}, {"transform": SigmoidTransform})
    )
    torch.testing.assert_close(sigmoid.population.center, scaled.population.center, rtol=0, atol=0.02)
    torch.testing.assert_close(sigmoid.population.spread, scaled.population.spread, rtol=0.03, atol=0)


def test_a_site_without_data_has_the_mean_of_its_group():
    problem = toy_sites(drawn(10), noise=0.3)
    problem.mask[4] = False
    found = fit_hierarchy(problem, plan_of(["hierarchical"] * 3, ["a"] * 10))
    torch.testing.assert_close(found.theta[4], found.population.center[0], rtol=0, atol=1e-4)


def test_the_spread_stays_between_its_limits():
    rows = ["name,prior,prior_sd,min,max", *(f"s{i},2,0.5,1.9,2.1" for i in (1, 2))]  # scaled bounds: -0.2 to 0.2
    table = parse_parameter_table(rows)
    wild = toy_sites(torch.tensor([[0.2, 0.0], [-0.2, 0.0]] * 6), noise=0.05, days=200, table=table)
    found = fit_hierarchy(wild, plan_of(["hierarchical"] * 2, ["a"] * 12, table))
    assert found.population.spread[0].item() == pytest.approx(0.2)
    assert found.population.spread[1].item() >= 0.01


def test_a_plan_without_hierarchy_is_refused_here_and_fitted_there():
    problem, plan = toy_sites(drawn(2)), plan_of(["global"] * 3, ["a", "a"])
    with pytest.raises(ConfigError, match=r"no parameter is hierarchical"):
        fit_hierarchy(problem, plan)
    assert torch.equal(fit_plan(problem, plan).gamma, fit_shared(problem, plan).gamma)
