from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lit_invert.errors import ConfigError, ShapeError
from lit_invert.losses import Boundary, LossTerm, Misfit, Prior
from lit_invert.parameters import ParameterSpace, parse_parameter_table
from lit_invert.problem import InversionProblem
from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from lit_invert.testing import toy_forcing, toy_problem, toy_surrogate, toy_table, toy_truth
from lit_invert.transforms import LogTransform, ScaledTransform, SigmoidTransform, SoftplusTransform

DRIVERS = (Variable("rain", mean=1.0, std=2.0),)
STATICS = (Variable("a", mean=2.0, std=4.0), Variable("b", mean=0.0, std=0.5))


class Line(nn.Module):
    """NEP = a * rain + b and GPP = 2 a, all scaled: two fluxes whose loss can be computed by hand."""

    def forward(self, static, forcing):
        a, b = static[:, None, 0], static[:, None, 1]
        rain = forcing[..., 0]
        return torch.stack([(2 * a).expand_as(rain), a * rain + b], dim=-1)


def line_problem(observed, mask, terms=None, sigma=None, forcing=None, transform=ScaledTransform):
    spec = SurrogateSpec("line", STATICS, DRIVERS, (Variable("gpp"), Variable("nep")))
    surrogate = FrozenSurrogate(Line(), spec).double()
    table = parse_parameter_table(["name,prior,prior_sd,min,max", "a,4,2,-6,30", "b,0.25,0.5,-1,1"])
    if forcing is None:
        forcing = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64).reshape(1, 3, 1)  # scaled: 0, 1, 2
    return InversionProblem(
        surrogate,
        ParameterSpace(table, transform(surrogate.static_scaler, table.bounds)),
        forcing,
        torch.as_tensor(observed, dtype=torch.float64).reshape(1, 3, 2),
        torch.as_tensor(mask).reshape(1, 3, 2),
        [Misfit(), Prior(weight=0.5)] if terms is None else terms,
        None if sigma is None else torch.as_tensor(sigma, dtype=torch.float64).reshape(1, 3, 2),
    )


NAN = math.nan
OBSERVED = [[9.0, 1.0], [NAN, NAN], [9.0, 3.0]]
MASK = [[True, True], [False, False], [True, True]]
THETA = torch.tensor([[1.5, 2.0]], dtype=torch.float64)


def test_loss_by_hand():
    # z = (1.5, 2): NEP = 2, 3.5, 5. Observed 1 and 3 on the first and last day: misfit (1 + 4) / 2.
    # The prior (4, 0.25) is z = (0.5, 0.5): 1 + 2.25 = 3.25, weighing a half.
    loss = line_problem(OBSERVED, MASK)(THETA)
    assert loss.evaluation.simulated[0].tolist() == [[3.0, 2.0], [3.0, 3.5], [3.0, 5.0]]
    assert {name: value.item() for name, value in loss.terms.items()} == {"misfit": 2.5, "prior": 3.25}
    assert {name: value.item() for name, value in loss.weighted.items()} == {"misfit": 2.5, "prior": 1.625}
    assert loss.total.tolist() == [4.125]


def test_several_outputs_by_hand():
    # GPP = 3 against 9 on two days: 36. Weights 1 and 0.2 over their sum 1.2.
    loss = line_problem(OBSERVED, MASK, [Misfit(multi_output=True)])(THETA)
    assert loss.total.item() == pytest.approx((2.5 + 0.2 * 36) / 1.2, rel=1e-15)


def test_uncertain_days_count_less():
    # Inverse variances 1 and 1/4, so weights 8/5 and 2/5 of a mean of one: (1 * 8/5 + 4 * 2/5) / 2.
    sigma = [[1.0, 1.0], [NAN, NAN], [1.0, 2.0]]
    loss = line_problem(OBSERVED, MASK, [Misfit()], sigma)(THETA)
    assert loss.total.item() == pytest.approx(1.6, rel=1e-15)
    equal = line_problem(OBSERVED, MASK, [Misfit()], [[3.0, 3.0]] * 3)(THETA)
    assert equal.total.item() == pytest.approx(2.5, rel=1e-15)


@pytest.mark.parametrize("transform", [ScaledTransform, SigmoidTransform, SoftplusTransform, LogTransform])
def test_gradient_matches_differences(transform):
    terms = [Misfit(multi_output=True), Prior(weight=0.3), Prior("prior_sd", weight=0.1), Boundary(0.3)]
    terms[2].name = "prior_sd"
    problem = toy_problem(3, 40, terms=terms, transform=transform)
    torch.manual_seed(0)
    theta = problem.space.to_theta(toy_truth() + 0.3 * torch.randn(2, 3, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(problem(theta).total.sum(), theta)
    step = 1e-6
    with torch.no_grad():
        for i in range(3):
            shift = torch.zeros(3, dtype=torch.float64)
            shift[i] = step
            expected = (problem(theta + shift).total - problem(theta - shift).total) / (2 * step)
            torch.testing.assert_close(gradient[:, i], expected, rtol=1e-7, atol=1e-8)
    assert bool((gradient.abs() > 1e-3).all())


def test_members_do_not_see_each_other():
    problem = toy_problem(3, 30, terms=[Misfit(), Prior(), Boundary()])
    torch.manual_seed(0)
    theta = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    together = problem(theta)
    assert together.total.shape == (4,)
    (gradient,) = torch.autograd.grad(together.total.sum(), theta)
    for member in range(4):
        alone = theta[member : member + 1].detach().requires_grad_()
        loss = problem(alone).total
        torch.testing.assert_close(loss[0], together.total[member], rtol=1e-14, atol=0)
        torch.testing.assert_close(torch.autograd.grad(loss.sum(), alone)[0][0], gradient[member], rtol=1e-13, atol=1e-15)


def test_each_member_may_have_its_own_site():
    forcing = torch.tensor([[1.0, 3.0, 5.0], [5.0, 3.0, 1.0]], dtype=torch.float64).reshape(2, 3, 1)
    one = line_problem(OBSERVED, MASK, forcing=forcing)
    simulated = one.simulate(THETA.expand(2, -1))
    assert simulated[..., 1].tolist() == [[2.0, 3.5, 5.0], [5.0, 3.5, 2.0]]
    losses = one(THETA.expand(2, -1)).terms["misfit"]
    assert losses.tolist() == [2.5, (16 + 1) / 2]


def test_order_of_terms_does_not_matter():
    terms = [Prior(weight=0.1), Misfit(weight=1 / 3), Boundary(0.4, weight=0.7)]
    theta = torch.full((1, 3), 0.37, dtype=torch.float64)
    losses = [toy_problem(terms=order)(theta) for order in (terms, terms[::-1], [terms[1], terms[2], terms[0]])]
    assert {tuple(loss.weighted) for loss in losses} == {("boundary", "misfit", "prior")}  # the order in which they are summed
    assert len({loss.total.item() for loss in losses}) == 1


def test_two_terms_of_one_name_are_not_lost():
    with pytest.raises(ConfigError, match="2 loss terms are named 'misfit'"):
        toy_problem(terms=[Misfit(), Misfit(target="gpp")])


@pytest.mark.parametrize("poison", [NAN, math.inf, 1e30])
def test_values_outside_the_mask_do_not_matter(poison):
    observed, sigma = torch.tensor(OBSERVED), torch.ones(3, 2)
    observed[1] = sigma[1] = poison
    problem = line_problem(observed, MASK, sigma=sigma)
    theta = THETA.clone().requires_grad_()
    loss = problem(theta)
    assert loss.total.tolist() == [4.125]
    (gradient,) = torch.autograd.grad(loss.total.sum(), theta)
    # d misfit / d(a, b) = mean of 2 * residual * (rain, 1); d prior = 2 * shift, weighing a half
    assert gradient.tolist() == [[(2 * 1 * 0 + 2 * 2 * 2) / 2 + 1.0, (2 + 4) / 2 + 1.5]]


def test_a_day_without_any_observation_weighs_nothing():
    few = [[False, True], [False, False], [False, False]]
    assert line_problem(OBSERVED, few, [Misfit()])(THETA).total.tolist() == [1.0]
    none = [[False, False]] * 3
    assert line_problem(OBSERVED, none, [Misfit()])(THETA).total.tolist() == [0.0]


def test_evaluation_shows_physical_values_and_moving_bounds():
    problem = line_problem(OBSERVED, MASK)
    evaluation = problem.evaluate(THETA)
    assert evaluation.physical.tolist() == [[8.0, 1.0]]
    assert evaluation.scaled.tolist() == THETA.tolist()
    assert (evaluation.lower.tolist(), evaluation.upper.tolist()) == ([[-6.0, -1.0]], [[30.0, 1.0]])
    assert evaluation.driver("rain").tolist() == [[1.0, 3.0, 5.0]]
    assert evaluation.observed[0].tolist() == [[9.0, 1.0], [0.0, 0.0], [9.0, 3.0]]


class Level(nn.Module):
    """A windowed forecaster: the past days' mean, and the statics, for three coming days."""

    def forward(self, static, forcing):
        nep = static[:, :1] + forcing["context"].mean(1) + forcing["future"][..., 0]
        return torch.stack([nep, nep], dim=-1)


def test_forcing_by_name():
    spec = SurrogateSpec("windowed", STATICS, DRIVERS, (Variable("gpp"), Variable("nep")))
    surrogate = FrozenSurrogate(Level(), spec).double()
    table = parse_parameter_table(["name,prior,prior_sd,min,max", "a,4,2,-6,30", "b,0.25,0.5,-1,1"])
    forcing = {
        "context": torch.tensor([2.0, 4.0], dtype=torch.float64).reshape(1, 2, 1),
        "future": torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).reshape(1, 3, 1),
    }
    observed = torch.zeros(1, 3, 2, dtype=torch.float64)
    space = ParameterSpace(table, ScaledTransform(surrogate.static_scaler, table.bounds))
    problem = InversionProblem(surrogate, space, forcing, observed, torch.ones(1, 3, 2, dtype=torch.bool), [Misfit()])
    assert problem.simulate(THETA.expand(2, -1))[..., 1].tolist() == [[4.5, 5.5, 6.5]] * 2
    assert sorted(problem.evaluate(THETA).forcing) == ["context", "future"]
    with pytest.raises(ConfigError, match="the forcing is a dict: context, future"):
        problem.evaluate(THETA).driver("rain")
    assert problem.float().simulate(THETA.float()).dtype == torch.float32


def test_precision_moves_everything():
    problem = toy_problem(dtype=torch.float32, terms=[Misfit(), Prior(), Boundary()])
    theta = torch.full((1, 3), 0.4)
    single = problem(theta)
    assert single.total.dtype == torch.float32
    double = problem.double()(theta.double())
    assert double.total.dtype == double.evaluation.forcing.dtype == double.evaluation.prior_scaled.dtype == torch.float64
    torch.testing.assert_close(single.total.double(), double.total, rtol=1e-5, atol=0)


def test_nothing_of_a_problem_is_a_weight():
    assert set(toy_problem(terms=[Misfit(), Prior()]).state_dict()) == {"simulator.surrogate.network.gain"}
    assert not any(parameter.requires_grad for parameter in toy_problem().parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": torch.ones(1, 59, 4, dtype=torch.bool)}, r"mask has shape \(1, 59, 4\), expected .*\(1, 60, 4\)"),
        ({"mask": torch.ones(1, 60, 4)}, "mask holds torch.float32, expected true and false"),
        ({"sigma": torch.zeros(1, 60, 4)}, "sigma must be positive and finite on every observed day"),
        ({"sigma": torch.ones(60, 4)}, r"sigma has shape \(60, 4\)"),
        ({"observed": torch.full((1, 60, 4), NAN)}, "observations are not finite on days that the mask marks as observed"),
        ({"observed": torch.zeros(1, 60, 3), "mask": torch.ones(1, 60, 3, dtype=torch.bool)}, r"expected \(batch, time, 4\)"),
        ({"forcing": torch.zeros(1, 60, 2)}, "forcing has 2 drivers but surrogate 'toy' expects 3"),
    ],
)
def test_arrays_that_do_not_belong_together(changes, message):
    surrogate, table = toy_surrogate(), toy_table()
    given = {
        "forcing": toy_forcing(60),
        "observed": torch.zeros(1, 60, 4),
        "mask": torch.ones(1, 60, 4, dtype=torch.bool),
        "terms": [Misfit()],
        **changes,
    }
    space = ParameterSpace(table, ScaledTransform(surrogate.static_scaler, table.bounds.float()))
    with pytest.raises(ShapeError, match=message):
        InversionProblem(surrogate, space, **given)


def test_days_of_forcing_and_observations_must_agree():
    surrogate, table = toy_surrogate(), toy_table()
    space = ParameterSpace(table, ScaledTransform(surrogate.static_scaler, table.bounds.float()))
    observed = torch.zeros(1, 1, 4)  # would broadcast over all days
    problem = InversionProblem(surrogate, space, toy_forcing(60), observed, observed == 0, [Misfit()])
    with pytest.raises(ShapeError, match="the surrogate simulates 60 days but 1 are observed"):
        problem(torch.zeros(1, 3))


def test_a_term_sees_the_days_of_the_fit_alone():
    seen = []

    class Spy(LossTerm):
        name = "spy"

        def forward(self, evaluation):
            seen.append(evaluation.observed)
            return evaluation.scaled.sum(-1) * 0

    line_problem([[9.0, 1.0], [7.0, 7.0], [9.0, 3.0]], MASK, [Spy()])(THETA)
    assert seen[0][0, 1].tolist() == [0.0, 0.0]  # unmasked values do not exist for it


def test_a_variant_asks_the_same_of_other_days():
    problem = line_problem(OBSERVED, MASK)
    first, last = torch.tensor(MASK), torch.tensor(MASK)
    first[2], last[0] = False, False
    both = problem.variant(mask=torch.stack([first, last]))
    alone = [line_problem(OBSERVED, mask)(THETA).total for mask in (first, last)]
    torch.testing.assert_close(both(THETA.repeat(2, 1)).total, torch.cat(alone), rtol=0, atol=0)
    torch.testing.assert_close(problem(THETA).total, line_problem(OBSERVED, MASK)(THETA).total, rtol=0, atol=0)


def test_a_variant_asks_the_same_of_other_weather_and_another_surrogate():
    other = torch.tensor([2.0, 7.0, 4.0], dtype=torch.float64).reshape(1, 3, 1)
    problem = line_problem(OBSERVED, MASK)
    expected = line_problem(OBSERVED, MASK, forcing=other)(THETA)
    varied = problem.variant(forcing=other)(THETA)
    torch.testing.assert_close(varied.total, expected.total, rtol=0, atol=0)
    assert torch.equal(varied.evaluation.forcing, other)
    twice = copy.deepcopy(problem.surrogate)
    twice.spec = replace(twice.spec, outputs=(Variable("gpp"), Variable("nep", "MgC ha-1 d-1")))
    nep = problem.variant(surrogate=FrozenSurrogate(twice.network, twice.spec).double()).simulate(THETA)[..., 1]
    torch.testing.assert_close(nep, 100 * problem.simulate(THETA)[..., 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": torch.ones(1, 3, 2, dtype=torch.bool)}, "days that are not observed here"),
        ({"observed": torch.zeros(1, 5, 2, dtype=torch.float64)}, r"shape \(1, 5, 2\), expected \(members, \*\(3, 2\)\)"),
        ({"mask": torch.zeros(2, 5, 2, dtype=torch.bool)}, r"shape \(2, 5, 2\)"),
    ],
)
def test_a_variant_refuses_what_is_no_part_of_the_question(changes, message):
    with pytest.raises(ShapeError, match=message):
        line_problem(OBSERVED, MASK).variant(**changes)


def test_a_variant_refuses_a_surrogate_of_other_parameters():
    spec = SurrogateSpec("line", STATICS[::-1], DRIVERS, (Variable("gpp"), Variable("nep")))
    with pytest.raises(ShapeError, match="other static parameters"):
        line_problem(OBSERVED, MASK).variant(surrogate=FrozenSurrogate(Line(), spec).double())


def test_a_variant_refuses_a_mask_over_days_without_a_value():
    with pytest.raises(ShapeError, match="not finite on days"):
        line_problem(OBSERVED, MASK).variant(observed=torch.full((1, 3, 2), NAN, dtype=torch.float64))


def test_a_term_can_simulate_other_weather_with_gradients():
    problem = line_problem(OBSERVED, MASK)
    theta = THETA.clone().requires_grad_()
    evaluation = problem.evaluate(theta)
    again = evaluation.simulate(problem.forcing)
    torch.testing.assert_close(again, evaluation.simulated, rtol=0, atol=0)
    wetter = evaluation.simulate(problem.forcing + 2.0)  # scaled rain one higher: NEP rises by scaled a
    torch.testing.assert_close((wetter - again)[..., 1], evaluation.scaled[:, :1].expand(1, 3))
    (slope,) = torch.autograd.grad((wetter - again).sum(), theta)
    torch.testing.assert_close(slope, torch.tensor([[3.0, 0.0]], dtype=torch.float64))


def test_fluxes_from_elsewhere_know_no_other_weather():
    evaluation = replace(line_problem(OBSERVED, MASK).evaluate(THETA), surrogate=None)
    with pytest.raises(ConfigError, match="come without a surrogate"):
        evaluation.simulate(torch.zeros(1, 3, 1))
