"""One value has one prior, whoever shares it."""

from __future__ import annotations

import torch

from lit_invert.losses import Misfit, Prior
from lit_invert.sharing.terms import GroupPrior, count_priors_once
from lit_invert.testing import check_loss_term, toy_problem
from tests.sharing.towers import plan_of, toy_sites


def test_a_shared_value_pays_once_for_its_distance_from_the_mean_of_its_priors():
    prior = torch.tensor([[2.0, 2.5], [3.0, 1.5], [2.2, 2.0]], dtype=torch.float64)
    problem = toy_sites(torch.zeros(3, 2), terms=[Misfit(weight=0.0), Prior(weight=0.5)], prior=prior)
    once = count_priors_once(problem, plan_of(["global", "site"], ["a", "a", "a"]))
    scaled = problem.space.scaler.to_scaled(prior)

    def price(shared):
        theta = torch.cat([torch.full((3, 1), shared, dtype=torch.float64), scaled[:, 1:]], 1)
        return once(theta).total.sum().item()

    mean = scaled[:, 0].mean().item()
    for shared in (-1.0, 0.3, 2.0):
        assert abs(price(shared) - price(mean) - 0.5 * (shared - mean) ** 2) < 1e-12


def test_some_members_pay_what_they_pay_among_all():
    problem = toy_sites(torch.zeros(4, 3), terms=[Misfit(), Prior("prior_sd", weight=0.5)])
    plan = plan_of(["global", "group", "hierarchical"], list("abbb"))
    once = count_priors_once(problem, plan)
    theta, some = torch.randn(4, 3).double(), torch.tensor([0, 2])
    torch.testing.assert_close(once(theta[some], some).terms["prior"], once(theta).terms["prior"][some])
    by_hand = theta[:, 0].square() / 4 + theta[:, 1].square() / torch.tensor([1, 3, 3, 3])
    torch.testing.assert_close(once(theta).terms["prior"], by_hand)


def test_sites_among_more_members_keep_their_own_divisor():
    problem = toy_sites(torch.zeros(4, 2), terms=[Misfit(), Prior()])
    sites = torch.tensor([3, 1])
    once = count_priors_once(problem, plan_of(["global", "group"], ["a", "b"]), sites)
    price = once(torch.ones(2, 2).double(), sites).terms["prior"]
    assert price.tolist() == [0.5 + 1.0, 0.5 + 1.0]


def test_the_group_prior_is_the_distance_in_units_of_the_spread():
    center = torch.tensor([[0.5, 0.0], [1.5, 0.0]]).double()
    term = GroupPrior(torch.tensor([2, 0]), center, torch.tensor([0.5, 2.0]).double(), torch.tensor([0.1, 0.2]).double())
    evaluation = toy_problem(n_days=4).evaluate(torch.tensor([[1.0, 9.0, 1.5], [4.0, 9.0, 1.5]]).double())
    torch.testing.assert_close(term(evaluation), torch.tensor([0.1 * (4 + 0.25), 0.2 * (0 + 4.0)]).double())


def test_contracts():
    check_loss_term(Prior(shared_by=torch.tensor([[1.0, 4.0, torch.inf]])))
    check_loss_term(GroupPrior(torch.tensor([0, 2]), torch.zeros(1, 2), torch.tensor([0.5, 2.0]), torch.tensor([0.3])))
