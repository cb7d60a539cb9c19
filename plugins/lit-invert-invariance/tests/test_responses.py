"""Responses of the wrong sign fail where they are, those of the right one pass, and the process model has them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lit_invert_invariance.responses import PERIOD, RESPONSES, WINDOW, check_monotone, driver_levels, window_means
from lit_invert_invariance.settings import InvarianceSettings
from torch import nn

from lit_invert import FrozenSurrogate, RunInfo, Variable, load_plugins, parse_fit, read_every_site
from lit_invert.process import SimCycle
from lit_invert.testing import toy_problem

RUN = RunInfo("check-surrogate", "toy", None, 0)
CONFIG = Path(__file__).parents[3] / "configs" / "fr_hes.yaml"


class Ecosystem(nn.Module):
    """GPP rises with light and Rh with soil temperature, unless told otherwise."""

    def __init__(self, light=1.0, soil=0.5, kept=0.5, loses=0):
        super().__init__()
        self.light, self.soil, self.kept, self.loses = light, soil, kept, loses

    def forward(self, static, forcing):
        _, soil, light = forcing.unbind(-1)
        gpp = 10 * torch.sigmoid(self.light * light) * torch.exp(0.1 * static[:, :1])
        rh = torch.exp(self.soil * soil) * torch.exp(0.1 * static[:, 1:2])
        fluxes = torch.stack([gpp, self.kept * gpp, self.kept * gpp - rh, rh], dim=-1)
        return fluxes if not self.loses else fluxes.masked_fill((torch.arange(len(gpp[0])) % self.loses == 0)[:, None], torch.nan)


class Lights(nn.Module):
    """All fluxes are one at a light of 100, and fall by a share for every ten more."""

    def __init__(self, fall):
        super().__init__()
        self.fall = fall

    def forward(self, static, forcing):
        flux = 1 - self.fall * (forcing[..., 2] - 100) / 10
        return flux[..., None].expand(len(static), -1, 4)


def check(network, n_days=400):
    problem = toy_problem(n_days=n_days)
    surrogate = FrozenSurrogate(network, problem.surrogate.spec).double()
    return check_monotone(problem.variant(surrogate=surrogate), None, RUN)


def broken(verdict):
    return {row["response"] for row in verdict.details["table"] if row["violations"] > verdict.threshold}


def test_an_ecosystem_passes():
    verdict = check(Ecosystem())
    assert (verdict.outcome, verdict.value) == ("pass", 0.0)
    assert len(verdict.details["table"]) == 5  # the toy has no carbon dioxide


@pytest.mark.parametrize(
    ("fault", "response"),
    [
        ({"light": -1.0}, "gpp does not fall with dswrf"),
        ({"soil": -0.5}, "rh does not fall with tmp10_soil and tmp200_soil"),
        ({"kept": 1.1}, "npp does not exceed gpp"),
    ],
)
def test_a_wrong_response_fails_where_it_is(fault, response):
    verdict = check(Ecosystem(**fault))
    assert verdict.outcome == "fail"
    assert verdict.value > 0.8  # where it is dark or cold the fluxes hardly change
    assert broken(verdict) == {response}
    assert response in verdict.message


def test_values_without_a_number_are_left_out_and_counted():
    verdict = check(Ecosystem(loses=16))
    assert verdict.outcome == "pass"
    assert verdict.details["left_out"] == InvarianceSettings().points * 25 * 4
    assert broken(check(Ecosystem(light=-1.0, loses=16))) == {"gpp does not fall with dswrf"}


@pytest.mark.parametrize(("fall", "share"), [(0.0095, 0.0), (0.0105, 1.0)])
def test_a_fall_counts_from_a_hundredth_of_the_flux(fall, share):
    problem = toy_problem()
    surrogate = FrozenSurrogate(Lights(fall), replace(problem.surrogate.spec, forcing_scaled=False)).double()
    forcing = problem.forcing.clone()
    forcing[..., 2] = 100.0
    verdict = check_monotone(problem.variant(surrogate=surrogate, forcing=forcing), None, RUN)
    assert verdict.value == share


def test_drivers_move_on_the_days_of_the_windows_and_inside_the_trained_range():
    drivers = (Variable("wind", "m s-1"), Variable("dswrf", "W m-2", minimum=90.0, maximum=115.0))
    forcing = torch.full((1, 45, 2), 100.0)
    levels = driver_levels(forcing, drivers, RESPONSES[0])
    assert levels[..., 0].unique().tolist() == [100.0]
    assert levels[:, PERIOD - 1, 1].tolist() == pytest.approx([90.0, 90.0, 100.0, 110.0, 115.0])
    moved = (levels[0, :, 1] != 100).nonzero().flatten().tolist()
    assert moved == [15, 16, 17, 18, 19, 35, 36, 37, 38, 39]
    assert driver_levels(forcing[:, : PERIOD - 1], drivers, RESPONSES[0]) is None
    assert driver_levels(forcing, drivers, RESPONSES[1]) is None


def test_windows_have_the_mean_of_days_that_every_level_has():
    fluxes = torch.arange(40.0).repeat(2, 1, 1)
    fluxes[1, 0, 19] = torch.nan
    assert WINDOW == 5
    assert window_means(fluxes).tolist() == [[[16.5, 37.0]], [[16.5, 37.0]]]


class Process(nn.Module):
    """The process model in a surrogate's place."""

    def forward(self, static, forcing):
        return SimCycle()(static, forcing)


def test_the_process_model_has_every_response():
    registry = load_plugins()
    inputs = next(iter(read_every_site(parse_fit(["--config", str(CONFIG), "--checks", "skip"], registry), registry)))
    spring = inputs.problem.first(120).variant(forcing=inputs.problem.forcing[:, 90:210])
    process = FrozenSurrogate(Process(), replace(spring.surrogate.spec, static_scaled=False, forcing_scaled=False))
    run = RunInfo("check-surrogate", "process", None, 0, sections={"invariance": InvarianceSettings(points=2)})
    verdict = check_monotone(spring.variant(surrogate=process), inputs.site, run)
    assert (verdict.outcome, verdict.value) == ("pass", 0.0)
    assert len(verdict.details["table"]) == 6
