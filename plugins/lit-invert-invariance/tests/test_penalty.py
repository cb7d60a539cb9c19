"""The penalty has its closed form, knows no unit, moves nothing out of range, and lowers the sensitivity of what is fitted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lit_invert_invariance.penalty import Invariance
from lit_invert_invariance.perturbation import draw_factors, flux_scale, perturb, simulate_perturbed
from torch import nn

from lit_invert import FrozenSurrogate, LevenbergMarquardt, LitInvertError, ProblemObjective, SurrogateSpec, Variable, minimize
from lit_invert.losses import Misfit, Prior
from lit_invert.testing import check_loss_term, toy_problem

WIND = torch.tensor([1.0, 4.0, 2.0, 3.0, 6.0], dtype=torch.float64)


class Proportional(nn.Module):
    """One flux, the first static parameter times the first driver, both as they come."""

    def forward(self, static, forcing):
        return static[:, None, :1] * forcing


def evaluate(driver, weather, parameters=(2.0,), **spec):
    """Return an evaluation of a proportional surrogate at parameters whose prior is one."""
    surrogate = FrozenSurrogate(
        Proportional(),
        SurrogateSpec("proportional", (Variable("a"),), (driver,), (Variable("nep", std=4.0),), forcing_scaled=False, **spec),
    ).double()
    scaled = torch.tensor(parameters, dtype=torch.float64)[:, None]
    template = toy_problem(1, len(WIND)).evaluate(torch.zeros(len(scaled), 1).double())
    simulated = surrogate(scaled, weather)
    return replace(
        template,
        scaled=scaled,
        simulated=simulated,
        forcing=weather,
        prior_scaled=torch.ones(1).double(),
        surrogate=surrogate,
        outputs=("nep",),
        drivers=(driver.name,),
    )


@pytest.mark.parametrize("term", [Invariance(), Invariance(draws=1, spread=0.1, seed=3)])
def test_contract(term):
    check_loss_term(term)


@pytest.mark.parametrize("spread", [1e-4, 0.02, 0.3])
def test_a_ratio_scale_has_its_closed_form_whatever_the_spread(spread):
    wind = WIND[None, :, None]
    z = draw_factors([Variable("wind", "m s-1")], 4, 1.0, seed=0)
    expected = z.square().mean() * (2 * WIND).square().mean() / WIND.var(correction=0)
    price = Invariance(spread=spread)(evaluate(Variable("wind", "m s-1"), wind))
    torch.testing.assert_close(price, expected[None], rtol=1e-9, atol=0)


def test_a_temperature_is_shifted_by_a_share_of_its_spread_in_training():
    air = (280 + WIND)[None, :, None]
    z = draw_factors([Variable("tmp_2m", "K")], 4, 1.0, seed=0)
    expected = z.square().mean() * (2 * 8.0) ** 2 / WIND.var(correction=0)
    torch.testing.assert_close(Invariance()(evaluate(Variable("tmp_2m", "K", std=8.0), air)), expected[None], rtol=1e-9, atol=0)


def test_outputs_that_the_spec_scales_are_divided_by_its_own_spread():
    evaluation = evaluate(Variable("wind", "m s-1"), WIND[None, :, None], outputs_scaled=True)
    assert flux_scale(evaluation).tolist() == [[4.0]]
    z = draw_factors([Variable("wind", "m s-1")], 4, 1.0, seed=0)
    expected = z.square().mean() * (2 * WIND * 4.0).square().mean() / 16
    torch.testing.assert_close(Invariance()(evaluation), expected[None], rtol=1e-9, atol=0)


def test_a_flux_that_does_not_vary_at_the_prior_is_not_scaled():
    evaluation = evaluate(Variable("wind", "m s-1"), torch.full((1, 5, 1), 3.0).double())
    assert flux_scale(evaluation).tolist() == [[1.0]]


def test_a_change_of_unit_that_the_spec_knows_has_no_effect():
    problem = toy_problem(n_days=24)
    theta = torch.tensor([[0.4, -0.8, 1.1]], dtype=torch.float64)
    here = problem.evaluate(theta)
    air, soil, light = problem.surrogate.spec.drivers
    factor = 0.0864
    drivers = (
        replace(air, unit="degC", mean=air.mean - 273.15),
        soil,
        replace(light, unit="MJ m-2 d-1", mean=light.mean * factor, std=light.std * factor),
    )
    other = FrozenSurrogate(problem.surrogate.network, replace(problem.surrogate.spec, drivers=drivers)).double()
    weather = problem.forcing * torch.tensor([1.0, 1.0, factor]) - torch.tensor([273.15, 0.0, 0.0]).double()
    there = replace(here, forcing=weather, surrogate=other)
    assert here.simulated.std() > 0.1
    # a spec's scaling is kept in float32
    torch.testing.assert_close(Invariance()(there), Invariance()(here), rtol=1e-5, atol=0)


def test_nothing_is_moved_out_of_the_range_of_training_nor_back_into_it():
    drivers = [Variable("wind", "m s-1", minimum=1.0, maximum=5.0)]
    weather = torch.tensor([[[0.5], [1.0], [3.0], [5.0], [7.0]]], dtype=torch.float64)
    up, down = perturb(weather, drivers, torch.tensor([[0.1], [-0.1]])).squeeze().tolist()
    assert up == pytest.approx([0.55, 1.1, 3.3, 5.0, 7.0], rel=1e-7)
    assert down == pytest.approx([0.5, 1.0, 2.7, 4.5, 6.3], rel=1e-7)


def test_what_no_instrument_measures_stays_and_the_rest_is_spread_as_stated():
    drivers = [Variable("day_length", "h"), Variable("dswrf", "W m-2"), Variable("sun_noon", "-"), Variable("tmp_2m", "K")]
    factors = draw_factors(drivers, 1024, 0.02, seed=5)
    assert factors[:, [0, 2]].abs().max() == 0
    torch.testing.assert_close(factors[:, [1, 3]].std(0), torch.full((2,), 0.02).double(), rtol=0.01, atol=0)
    torch.testing.assert_close(factors[:, [1, 3]].mean(0), torch.zeros(2).double(), rtol=0, atol=2e-4)


def test_the_draws_are_those_of_the_seed_and_leave_the_global_generator_alone():
    drivers = [Variable("wind"), Variable("aco2", "ppm")]
    before = torch.get_rng_state()
    first, again, other = (draw_factors(drivers, 4, 0.02, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_members_with_weather_of_their_own_are_as_they_are_alone():
    weather = torch.stack([WIND, WIND.flip(0) + 1])[..., None]
    together = evaluate(Variable("wind", "m s-1"), weather, (2.0, 3.0))
    alone = [evaluate(Variable("wind", "m s-1"), weather[i : i + 1], (a,)) for i, a in enumerate((2.0, 3.0))]
    torch.testing.assert_close(Invariance()(together), torch.cat([Invariance()(e) for e in alone]), rtol=1e-12, atol=0)
    factors = draw_factors([Variable("wind", "m s-1")], 3, 0.02, seed=0)
    expected = torch.tensor([2.0, 3.0]).double()[:, None] * weather[..., 0] * (1 + factors[:, None])
    torch.testing.assert_close(simulate_perturbed(together, factors)[..., 0], expected, rtol=1e-12, atol=0)


def test_a_larger_weight_leaves_a_smaller_penalty():
    prices = []
    for weight in (0.0, 0.1, 1.0):
        problem = toy_problem(terms=[Misfit(), Prior(weight=0.01), Invariance(weight)])
        found = minimize(ProblemObjective(problem), torch.zeros(1, 3).double(), LevenbergMarquardt)
        assert found.status.startswith("converged")
        prices.append(problem(found.theta).terms["invariance"].item())
    assert prices[0] > 1.1 * prices[1] > 1.21 * prices[2]


def test_a_dict_of_windows_and_fluxes_from_elsewhere_are_refused():
    evaluation = evaluate(Variable("wind", "m s-1"), WIND[None, :, None])
    with pytest.raises(LitInvertError, match="the forcing is a dict: air"):
        Invariance()(replace(evaluation, forcing={"air": evaluation.forcing}))
    with pytest.raises(LitInvertError, match="come without a surrogate"):
        Invariance()(replace(evaluation, surrogate=None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"draws": 0}, "draws is 0"), ({"spread": 0.0}, "spread is 0.0"), ({"spread": 1.0}, "spread is 1.0")],
)
def test_wrong_arguments_are_one_line(arguments, message):
    with pytest.raises(LitInvertError, match=f"loss term 'invariance': {message}, expected"):
        Invariance(**arguments)
