"""A network that learns parameters from attributes, on sites whose parameters are a linear function of two."""

from __future__ import annotations

import pytest
import torch

from lit_invert.attributes import AttributeNetwork, AttributeSettings, learn_parameters
from lit_invert.errors import ConfigError, ShapeError
from lit_invert.losses import Misfit, Prior
from lit_invert.parameters import parse_parameter_table
from lit_invert.sharing import fit_plan
from lit_invert.transforms import SigmoidTransform
from tests.sharing.towers import plan_of, toy_sites

SLOPES = torch.tensor([[0.5, -0.3, 0.2], [0.1, 0.4, -0.5]]).double()
UNSEEN = 30


def attributed(sites, seed=1):
    """Attributes of sites and of unseen ones, and the scaled parameters that these have."""
    attributes = torch.randn(sites + UNSEEN, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return attributes * torch.tensor([100.0, 0.01]).double() + 5, torch.tensor([0.3, 0.2, -0.2]).double() + attributes @ SLOPES


def twins(truth, **changes):
    return toy_sites(truth, **{"noise": 0.3, "days": 60, "terms": [Misfit(), Prior(weight=0.003)], **changes})


def rms(values):
    return values.square().mean().sqrt().item()


def test_unseen_sites_are_far_better_known_than_by_the_prior_or_a_global_value():
    attributes, truth = attributed(40)
    problem, unseen = twins(truth[:40]), truth[40:]
    learned = learn_parameters(problem, attributes[:40])
    from_attributes = learned.network(attributes[40:], torch.zeros(1, 3).double())
    everywhere = fit_plan(problem, plan_of(["global"] * 3, ["a"] * 40)).gamma
    assert rms(from_attributes - unseen) < 0.4 * min(rms(unseen), rms(everywhere - unseen))
    assert len(learned.held_out) == 8
    assert learned.history["watched"].min() < 0.9 * learned.history["watched"].iloc[0]
    torch.testing.assert_close(learned.theta, learned.network(attributes[:40], torch.zeros(1, 3).double()))


def test_the_network_is_the_one_that_met_the_held_out_sites_best():
    attributes, truth = attributed(20)
    problem = twins(truth[:20])
    learned = learn_parameters(problem, attributes[:20], AttributeSettings(epochs=60, patience=5))
    held = learned.held_out
    error = (problem.evaluate(learned.theta[held], held).simulated - problem.observed[held])[..., 2]
    assert rms(error) == pytest.approx(learned.history["watched"].min(), rel=1e-9)


@pytest.mark.parametrize("sites", [1, 3])
def test_a_handful_of_sites_does_not_blow_up(sites):
    attributes, truth = attributed(sites)
    problem = twins(truth[:sites])
    learned = learn_parameters(problem, attributes[:sites], AttributeSettings(epochs=100))
    assert len(learned.held_out) == 0
    assert problem(learned.theta).total.mean() < problem(torch.zeros(sites, 3).double()).total.mean()
    unseen = learned.network(attributes[sites:], torch.zeros(1, 3).double())
    assert rms(unseen - truth[sites:]) < 1.25 * rms(truth[sites:])  # little is learnt, and little is lost


def test_it_stops_by_the_select_days_where_there_are_any():
    attributes, truth = attributed(8)
    problem = twins(truth[:8])
    mask = problem.mask.clone()
    mask[:, ::2] = False
    learned = learn_parameters(problem, attributes[:8], AttributeSettings(epochs=5), select=(problem.observed, mask))
    assert len(learned.held_out) == 0
    first = problem.simulate(learned.theta)[:, 1::2, 2] - problem.observed[:, 1::2, 2]
    assert rms(first) == pytest.approx(learned.history["watched"].min(), rel=1e-9)


@pytest.mark.parametrize("transform", [None, SigmoidTransform])
def test_it_starts_at_the_priors_and_stays_inside_the_bounds(transform):
    attributes, truth = attributed(6)
    prior = torch.tensor([[2.0, 2.5, 1.0]]).expand(6, -1) + 0.1 * torch.arange(6)[:, None]
    changes = {} if transform is None else {"transform": transform}
    problem = twins(truth[:6], prior=prior, **changes)
    start = problem.space.to_theta(problem.space.prior)
    lower, upper = problem.space.theta_bounds(start)
    network = AttributeNetwork(attributes[:6], lower[0], upper[0], problem.space.fixed)
    torch.testing.assert_close(network(attributes[:6], start), start)
    torch.nn.init.normal_(network.last.weight, std=1e3)
    physical = problem.space.to_physical(network(attributes[:6], start))
    assert torch.equal(physical, physical.clamp(0.5 - 1e-9, 3.5 + 1e-9))


def test_a_fixed_parameter_stays_at_the_prior_of_its_site():
    attributes, truth = attributed(6)
    rows = ["name,prior,min,max,fixed", "s1,2,0.5,3.5,true", "s2,2,0.5,3.5,false", "s3,2,0.5,3.5,false"]
    prior = torch.full((6, 3), 2.0) + 0.1 * torch.arange(6)[:, None]
    problem = twins(truth[:6], prior=prior, table=parse_parameter_table(rows))
    learned = learn_parameters(problem, attributes[:6], AttributeSettings(epochs=5))
    torch.testing.assert_close(learned.theta[:, 0], problem.space.to_theta(problem.space.prior)[:, 0])


def test_an_attribute_that_is_the_same_everywhere_says_nothing():
    attributes, truth = attributed(6)
    attributes[:6, 1] = 7.0
    learned = learn_parameters(twins(truth[:6]), attributes[:6], AttributeSettings(epochs=5))
    assert bool(learned.theta.isfinite().all())


def test_what_cannot_be_learnt_from_is_refused():
    attributes, truth = attributed(6)
    problem = twins(truth[:6])
    with pytest.raises(ShapeError, match=r"attributes have shape \(5, 2\), expected \(6, attributes\)"):
        learn_parameters(problem, attributes[:5])
    attributes[3, 1] = torch.nan
    with pytest.raises(ShapeError, match=r"attribute number 2 of site number 4 is nan, expected a finite number. Fill it"):
        learn_parameters(problem, attributes[:6])
    with pytest.raises(ConfigError, match=r"`attributes.lr` is 0, expected a positive number"):
        AttributeSettings(lr=0)
    with pytest.raises(ConfigError, match=r"held_out is 1.0, expected a share below 1"):
        AttributeSettings(held_out=1.0)
