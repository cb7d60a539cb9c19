from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from lit_invert.checks import CHECKS, check_balance, check_finite, check_forcing, check_gradient, check_prior
from lit_invert.extensions import Check
from lit_invert.losses import LossTerm
from lit_invert.observations import Observations
from lit_invert.sites import Site
from lit_invert.testing import ToyNetwork, toy_forcing, toy_problem

DAYS = 100


def site_of(forcing):
    dates = np.datetime64("2016-01-01") + np.arange(DAYS)
    nothing = np.full((DAYS, 4), np.nan)
    fit = Observations(dates, ("gpp", "npp", "nep", "rh"), nothing, np.zeros((DAYS, 4), dtype=bool))
    roles = np.full(DAYS, "fit")
    return Site("toy", 45.0, dates, ("tmp_2m", "tmp10_soil", "dswrf"), forcing, fit, None, roles, ())


@pytest.fixture
def site():
    return site_of(toy_forcing(DAYS)[0].numpy().astype(np.float64))


@pytest.fixture
def problem():
    return toy_problem(3, DAYS)


def with_spec(problem, **changes):
    problem.surrogate.spec = replace(problem.surrogate.spec, **changes)
    return problem


def with_ranges(problem, minimum, maximum, log=False):
    """The first static parameter trained on another range; its prior is 2."""
    first, *others = problem.surrogate.spec.statics
    return with_spec(problem, statics=(replace(first, minimum=minimum, maximum=maximum, log=log), *others))


def test_a_healthy_problem_passes_every_check(problem, site):
    drivers = tuple(replace(v, minimum=0.0, maximum=400.0) for v in problem.surrogate.spec.drivers)
    verdicts = [check.run(with_spec(problem, drivers=drivers), site) for check in CHECKS]
    assert [v.outcome for v in verdicts] == ["pass"] * 5
    assert [v.check for v in verdicts] == [check.name for check in CHECKS] == sorted(check.name for check in CHECKS)
    assert all(v.message.endswith(".") and "\n" not in v.message for v in verdicts)


@pytest.mark.parametrize(
    ("minimum", "maximum", "log", "outcome", "value"),
    [
        (2.0, 3.0, False, "pass", 0.0),
        (1.0, 2.0, False, "pass", 0.0),
        (2.05, 3.05, False, "advice", 0.05),
        (2.15, 3.15, False, "fail", 0.15),
        (0.0, 1.6, False, "fail", 0.25),
        (2 * math.e, 2 * math.e**17, True, "advice", 1 / 16),
        (2 * math.e, 2 * math.e**5, True, "fail", 0.25),
        (None, None, False, "pass", 0.0),
    ],
)
def test_prior_outside_the_training_range(problem, site, minimum, maximum, log, outcome, value):
    verdict = check_prior(with_ranges(problem, minimum, maximum, log), site)
    assert verdict.value == pytest.approx(value, abs=1e-15)
    assert verdict.outcome == outcome
    assert ("'s1'" in verdict.message) == (outcome != "pass")


@pytest.mark.parametrize(("days", "outcome"), [(0, "pass"), (1, "pass"), (2, "advice"), (20, "advice"), (21, "fail")])
def test_weather_outside_the_training_range(problem, days, outcome):
    forcing = np.full((DAYS, 3), 280.0)
    forcing[:days, 1] = 7.0  # degrees Celsius, say
    drivers = tuple(replace(v, minimum=250.0, maximum=310.0) for v in problem.surrogate.spec.drivers)
    verdict = check_forcing(with_spec(problem, drivers=drivers), site_of(forcing))
    assert (verdict.outcome, verdict.value) == (outcome, days / DAYS)
    assert ("'tmp10_soil'" in verdict.message) == (days > 0)


def test_a_value_on_the_edge_of_the_training_range_is_inside(problem):
    drivers = tuple(replace(v, minimum=250.0, maximum=280.0) for v in problem.surrogate.spec.drivers)
    assert check_forcing(with_spec(problem, drivers=drivers), site_of(np.full((DAYS, 3), 280.0))).value == 0.0


def test_drivers_without_a_known_range_pass(problem, site):
    assert check_forcing(problem, site).outcome == "pass"


def test_simulated_values_that_are_not_finite(problem, site):
    with torch.no_grad():
        problem.surrogate.network.gain.fill_(math.inf)
    verdict = check_finite(problem, site)
    assert verdict.outcome == "fail"
    assert verdict.value == 4 * DAYS  # inf times a static of zero is no number, in all four fluxes
    assert f"{4 * DAYS} of {4 * DAYS} simulated values" in verdict.message


def test_gradient_that_is_zero_everywhere(problem, site):
    with torch.no_grad():
        problem.surrogate.network.gain.zero_()
    verdict = check_gradient(problem, site)
    assert (verdict.outcome, verdict.value) == ("fail", 0.0)


class Root(LossTerm):
    """Finite at the prior, but with a vertical slope: the square root of the distance of the second parameter."""

    name = "root"

    def forward(self, evaluation):
        return evaluation.scaled[:, 1].abs().sqrt()


def test_gradient_that_is_not_finite_names_the_parameter(site):
    problem = toy_problem(3, DAYS, terms=[Root()])
    verdict = check_gradient(problem, site)
    assert verdict.outcome == "fail"
    assert "not finite for 's2';" in verdict.message


def test_gradient_is_that_of_the_loss(problem, site):
    theta = problem.space.to_theta(problem.space.prior)[None].requires_grad_()
    problem(theta).total.sum().backward()
    assert check_gradient(problem, site).value == pytest.approx(theta.grad.norm().item(), rel=1e-12)


class Leaky(ToyNetwork):
    """Loses a share of the carbon: NEP is too small by that share of NPP + Rh."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, static, forcing):
        gpp, npp, nep, rh = super().forward(static, forcing).unbind(-1)
        return torch.stack([gpp, npp, nep - self.share * (npp.abs() + rh.abs()), rh], dim=-1)


@pytest.mark.parametrize(("share", "outcome"), [(0.0, "pass"), (0.009, "pass"), (0.011, "advice"), (0.5, "advice")])
def test_a_leaking_carbon_budget(problem, site, share, outcome):
    problem.surrogate.network = Leaky(share).double()
    verdict = check_balance(problem, site)
    assert verdict.outcome == outcome
    assert verdict.value == pytest.approx(share, abs=1e-15 if share == 0 else 1e-12)


def test_a_budget_that_is_not_given_cannot_leak(problem, site):
    outputs = tuple(
        replace(v, name=name) for v, name in zip(problem.surrogate.spec.outputs, ("gpp", "le", "nep", "h"), strict=True)
    )
    assert check_balance(with_spec(problem, outputs=outputs), site).outcome == "pass"


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda problem: problem, ("problem",)),
        (lambda problem, site: (problem, site), (("problem", "site"),)),
        (lambda problem, site, run: (problem, site, run), (("problem", "site", "run"),)),
        (lambda problem, site, limit=3.0: (problem, site, limit), (("problem", "site", 3.0),)),
        (lambda problem, *, site="own": (problem, site), (("problem", "own"),)),
        (lambda *given: given, (("problem", "site", "run"),)),
        (partial(lambda problem, site, limit: (problem, site, limit), limit=2.0), (("problem", "site", 2.0),)),
    ],
)
def test_a_check_is_given_as_many_arguments_as_it_takes(ask, expected):
    assert (Check("any", ask).ask("problem", "site", "run"),) == expected
