"""The annual mean is that of the days that count; five per cent is the limit, on both sides of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lit_invert_invariance.expectancy import annual_mean, check_expectancy, judge
from lit_invert_invariance.settings import InvarianceSettings
from sound import IgnoresUnits, LosesDays, Sound, sound_problem
from torch import nn

from lit_invert import FrozenSurrogate, RunInfo, SurrogateSpec, Variable
from lit_invert.losses import Misfit
from lit_invert.testing import toy_problem

RUN = RunInfo("check-surrogate", "twin", None, 0)


class Leans(nn.Module):
    """NEP of mean one with a large season, of which a raw driver that is one every day has a share."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, static, forcing):
        phase = 2 * torch.pi * torch.arange(forcing.shape[1], dtype=forcing.dtype) / forcing.shape[1]
        nep = 1 - self.share + self.share * forcing[..., 0] + 200 * phase.cos() + (2 * phase).cos() * static[:, :1]
        return nep[..., None].expand(-1, -1, 4)


def leaning_problem(change):
    """Return a problem whose annual NEP changes by so many per cent when its driver is multiplied by 10,000."""
    plain = toy_problem(n_days=60)
    spec = SurrogateSpec(
        "leans", plain.surrogate.spec.statics, (Variable("wind", "m/s"),), plain.surrogate.spec.outputs, forcing_scaled=False
    )
    forcing = torch.ones(1, 60, 1, dtype=torch.float64)
    problem = plain.variant(surrogate=FrozenSurrogate(Leans(change / 100 / 9999), spec).double(), forcing=forcing)
    return problem.variant(observed=problem.simulate(torch.zeros(1, 3, dtype=torch.float64)))


def test_the_annual_mean_is_that_of_numpy():
    flux, days = torch.arange(9.0), torch.arange(9) > 3
    assert annual_mean(flux, days) == pytest.approx(np.arange(4, 9).mean() * 365.25)
    assert math.isnan(annual_mean(flux, torch.zeros(9, dtype=torch.bool)))


@pytest.mark.parametrize(("change", "outcome"), [(4.999, "pass"), (5.001, "fail")])
def test_five_per_cent_is_the_limit(change, outcome):
    verdict = check_expectancy(leaning_problem(change), None, RUN)
    assert (verdict.outcome, verdict.threshold) == (outcome, 5.0)
    assert verdict.value == pytest.approx(change, rel=1e-6)
    assert ("scale invariance violated" in verdict.message) == (outcome == "fail")
    assert "'drivers x 10,000'" in verdict.message


def test_a_sound_surrogate_keeps_its_annual_mean_at_prior_and_optimum():
    problem, site = sound_problem(Sound())
    verdict = check_expectancy(problem, site, RUN)
    assert verdict.outcome == "pass"
    assert verdict.value < 0.01
    rows = verdict.details["table"]
    at = {place: [row for row in rows if row["at"] == place] for place in ("prior", "optimum")}
    assert (len(at["prior"]), len(at["optimum"])) == (10, 3)
    assert at["prior"][0]["original [gC m-2 yr-1]"] != at["optimum"][0]["original [gC m-2 yr-1]"]
    prior = problem.simulate(problem.space.to_theta(problem.space.priors))[0, :, 2].double().mean() * 365.25
    assert at["prior"][0]["original [gC m-2 yr-1]"] == pytest.approx(prior.item(), rel=1e-9)


def test_what_retention_names_does_not_count_again():
    verdict = check_expectancy(*sound_problem(IgnoresUnits(), forcing_scaled=False), RUN)
    assert verdict.outcome == "pass"
    assert "K as degC" in verdict.details["left out"]
    shown = next(row for row in verdict.details["table"] if row["transform"] == "K as degC")
    assert shown["change [%]"] > 5


def test_days_that_are_not_finite_are_left_out():
    verdict = check_expectancy(*sound_problem(LosesDays()), RUN)
    assert verdict.outcome == "pass"
    assert math.isfinite(verdict.value)


def test_without_a_finite_value_nothing_is_compared():
    problem, site = sound_problem(Sound())
    problem.space.prior.fill_(torch.nan)
    verdict = check_expectancy(problem, site, RUN)
    assert (verdict.outcome, verdict.value, verdict.details["table"]) == ("advice", None, [])


def test_settings_reach_the_tolerance_of_predictions():
    strict = RunInfo("check-surrogate", "twin", None, 0, sections={"invariance": InvarianceSettings(prediction_tolerance=1e-15)})
    problem, site = sound_problem(Sound())
    assert "K as degC" in check_expectancy(problem, site, strict).details["left out"]


def test_a_small_change_of_a_mean_near_zero_is_said_to_be_one():
    row = {
        "transform": "K as degC",
        "at": "prior",
        "original [gC m-2 yr-1]": 1e-3,
        "scaled [gC m-2 yr-1]": 2e-3,
        "change [%]": 100.0,
    }
    verdict = judge([row], set(), "nep")
    assert (verdict.outcome, verdict.value) == ("fail", 100.0)
    assert "a change of 0.001 of a mean near zero" in verdict.message
    assert "near zero" not in judge([row | {"scaled [gC m-2 yr-1]": 0.012}], set(), "nep").message


def test_nep_is_compared_whatever_is_fitted():
    verdict = check_expectancy(toy_problem(terms=[Misfit(target="gpp")]), None, RUN)
    assert "the annual mean of 'nep'" in verdict.message
