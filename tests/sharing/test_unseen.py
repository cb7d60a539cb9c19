"""Sites that no fit has seen, and what sharing costs those that it has."""

from __future__ import annotations

import pytest
import torch

from lit_invert.errors import ConfigError
from lit_invert.losses import Misfit, Prior
from lit_invert.sharing import fit_plan, leave_one_out, predict_parameters, score
from tests.sharing.towers import plan_of, toy_sites

GROUPS = list("aabbbc")
KINDS = ["hierarchical", "group", "global", "site"]


def six_sites(noise=0.2):
    generator = torch.Generator().manual_seed(4)
    truth = 0.5 * torch.randn(6, 4, generator=generator).double()
    truth[:, 1] = torch.tensor([0.6, 0.6, -0.6, -0.6, -0.6, 0.1])
    truth[:, 2] = 0.4
    return toy_sites(truth, noise=noise, terms=[Misfit(), Prior(weight=0.01)])


@pytest.fixture(scope="module")
def fitted():
    problem, plan = six_sites(), plan_of(KINDS, GROUPS)
    return problem, plan, fit_plan(problem, plan)


def test_an_unseen_site_has_the_mean_the_group_the_globe_and_the_prior(fitted):
    problem, plan, fit = fitted
    prior = torch.tensor([2.0, 2.0, 2.0, 2.3])
    theta = predict_parameters(problem, plan, fit, "b", prior)
    assert theta[0].item() == pytest.approx(fit.population.center[1].item())
    assert theta[1] == fit.gamma[plan.labels.index("s2[b]")]
    assert theta[2] == fit.gamma[plan.labels.index("s3")]
    assert theta[3].item() == pytest.approx(0.6, abs=1e-6)  # the site's own prior: 0.3 over 0.5
    assert predict_parameters(problem, plan, fit, "b")[3].item() == 0.0


def test_a_group_that_was_not_fitted_is_refused(fitted):
    with pytest.raises(ConfigError, match=r"no site of group 'd' was fitted"):
        predict_parameters(*fitted, "d")


def test_leaving_a_site_out_is_fitting_the_others_from_scratch(fitted):
    problem, plan, fit = fitted
    table = leave_one_out(problem, plan, fit, problem.observed, problem.mask, chosen=[2])
    others = torch.tensor([0, 1, 3, 4, 5])
    rest = plan_of(KINDS, [GROUPS[site] for site in others])
    alone = fit_plan(problem, rest, sites=others)
    theta = predict_parameters(problem, rest, alone, "b")
    by_hand = (problem.simulate(theta.expand(6, -1))[2, :, 2] - problem.observed[2, :, 2]).square().mean().sqrt()
    assert table.loc[2, "unseen"] == pytest.approx(by_hand.item(), rel=1e-3)
    assert table.loc[2, "group"] == "b"


def test_the_only_site_of_a_group_cannot_be_lent_anything(fitted):
    problem, plan, fit = fitted
    table = leave_one_out(problem, plan, fit, problem.observed, problem.mask)
    assert table.index.tolist() == list(range(6))
    assert table["unseen"].isna().tolist() == [False] * 5 + [True]
    assert (table["seen"] < table["prior"]).all()
    kinds = ["global", "global", "global", "site"]
    shared = plan_of(kinds, GROUPS)
    table = leave_one_out(problem, shared, fit_plan(problem, shared), problem.observed, problem.mask, chosen=[5])
    assert table.notna().to_numpy().all()


def test_what_a_site_says_has_no_part_in_what_it_is_lent():
    table = []
    for shift in (0.0, 3.0):
        problem, plan = six_sites(), plan_of(["global", "global", "global", "site"], GROUPS)
        problem.observed[2, :, 2] += shift
        fit = fit_plan(problem, plan)
        clean = six_sites()
        table.append(leave_one_out(problem, plan, fit, clean.observed, clean.mask, chosen=[2]).loc[2])
    assert table[0]["unseen"] == pytest.approx(table[1]["unseen"], rel=1e-4)
    assert abs(table[0]["seen"] - table[1]["seen"]) > 0.01


def test_scores_are_of_the_masked_days_alone_and_a_site_without_any_has_none():
    problem = six_sites()
    theta, mask, observed = torch.zeros(6, 4).double(), problem.mask.clone(), problem.observed.clone()
    mask[0], mask[1, 5:] = False, False
    observed[1, 5:] = torch.nan
    found = score(problem, theta, observed, mask)
    by_hand = (problem.simulate(theta)[1, :5, 2] - observed[1, :5, 2]).square().mean().sqrt()
    assert found[0].isnan()
    torch.testing.assert_close(found[1], by_hand)
    torch.testing.assert_close(score(problem, theta[1:3], observed, mask, sites=torch.tensor([1, 2])), found[1:3])
