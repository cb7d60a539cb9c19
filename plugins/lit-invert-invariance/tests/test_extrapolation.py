"""Weather outside the training is where it is said to be, and fluxes there are measured against those of the record."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lit_invert_invariance.extrapolation import check_extrapolation, unseen_weathers
from torch import nn

from lit_invert import FrozenSurrogate, Variable
from lit_invert.testing import toy_problem


class Light(nn.Module):
    """Every flux is some multiple of the light, which is not scaled."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, static, forcing):
        return self.factor * forcing[..., 2:].expand(len(static), -1, 4)


def problem_of(network, ranges=((None, None), (None, None), (0.0, 400.0)), light=(100.0, 200.0)):
    problem = toy_problem(n_days=2)
    drivers = [
        replace(driver, minimum=low, maximum=high)
        for driver, (low, high) in zip(problem.surrogate.spec.drivers, ranges, strict=True)
    ]
    spec = replace(problem.surrogate.spec, drivers=tuple(drivers), forcing_scaled=False)
    forcing = problem.forcing.clone()
    forcing[0, :, 2] = torch.tensor(light)
    return problem.variant(surrogate=FrozenSurrogate(network, spec).double(), forcing=forcing)


def test_growth_of_a_flux_in_proportion_to_light():
    """Light from 100 to 200 is shifted up to 440 and down to -40, a tenth of the range beyond it, of which -5 is on earth."""
    verdict = check_extrapolation(problem_of(Light(0.01)), None)
    assert verdict.outcome == "advice"
    assert verdict.value == pytest.approx(440 / 200, rel=1e-12)
    assert [(row["weather"], row["largest"]) for row in verdict.details["table"]] == [
        ("dswrf above", pytest.approx(4.4)),
        ("dswrf below", pytest.approx(0.6)),
    ]


@pytest.mark.parametrize(("light", "outcome"), [((100.0, 225.0), "pass"), ((100.0, 215.0), "advice")])
def test_growth_is_judged_at_two(light, outcome):
    assert check_extrapolation(problem_of(Light(0.01), light=light), None).outcome == outcome


@pytest.mark.parametrize(("factor", "outcome"), [(99.9 / 440, "advice"), (100.1 / 440, "fail")])
def test_a_flux_is_judged_at_a_hundred(factor, outcome):
    verdict = check_extrapolation(problem_of(Light(factor)), None)
    assert verdict.outcome == outcome
    assert "dswrf above" in verdict.message


def test_weather_that_is_not_on_earth_is_not_asked_for():
    drivers = (Variable("tcdc", "%", minimum=0.0, maximum=100.0), Variable("prate", "kg m-2 s-1", minimum=0.0, maximum=0.001))
    weathers = unseen_weathers(torch.tensor([[[20.0, 0.0], [90.0, 0.0002]]]), drivers)
    assert list(weathers) == ["prate above"]
    torch.testing.assert_close(weathers["prate above"], torch.tensor([[[20.0, 0.0009], [90.0, 0.0011]]]))


def test_all_drivers_move_together_too():
    weathers = unseen_weathers(
        torch.zeros(1, 3, 2), (Variable("a", minimum=-1.0, maximum=1.0), Variable("b", minimum=-5.0, maximum=5.0))
    )
    assert list(weathers) == ["a above", "b above", "all above", "a below", "b below", "all below"]
    assert weathers["all below"].unique(dim=1).flatten().tolist() == pytest.approx([-1.2, -6.0])


def test_without_a_trained_range_the_question_does_not_arise():
    assert check_extrapolation(problem_of(Light(1.0), ranges=((None, None),) * 3), None) is None


class Loses(Light):
    """Has no number in more light than it was trained on."""

    def forward(self, static, forcing):
        fluxes = super().forward(static, forcing)
        return torch.where(forcing[..., 2:] > 400, torch.nan, fluxes)


def test_values_without_a_number_are_left_out_and_counted():
    verdict = check_extrapolation(problem_of(Loses(0.01)), None)
    assert verdict.outcome == "pass"
    assert [row["left_out"] for row in verdict.details["table"]] == [4, 0]
