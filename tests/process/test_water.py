"""Water: conservation and limits."""

from __future__ import annotations

import pytest
import torch

from lit_invert.process.environment import Environment, read_environment
from lit_invert.process.statics import Statics
from lit_invert.process.water import potential_evaporation, smooth_minimum, step_water


@pytest.fixture
def prior(table):
    return Statics(*table.prior[None].unbind(-1))


@pytest.fixture
def wet_day(forcing):
    return Environment(*(values[:, 180] for values in read_environment(forcing)))._replace(
        rain=torch.tensor([40.0], dtype=torch.float64), snowfall=torch.tensor([3.0], dtype=torch.float64)
    )


def test_a_day_s_water_is_conserved_through_snow_rain_and_overflow(prior, wet_day):
    bucket, snow = prior.w_max - 5.0, torch.tensor([20.0], dtype=torch.float64)
    after = step_water(prior, wet_day, bucket, snow, torch.full_like(bucket, 3.0), torch.full_like(bucket, 0.2))
    gained = after.bucket - bucket + after.snow - snow
    lost = after.interception + after.evapotranspiration + after.runoff
    torch.testing.assert_close(gained + lost, wet_day.rain + wet_day.snowfall, rtol=0.0, atol=1e-12)
    assert after.runoff > 0.0
    assert after.bucket == prior.w_max


def test_smooth_minimum_is_below_both_and_solves_its_quadratic():
    first = torch.tensor([0.0, 1.0, 3.0, 8.0], dtype=torch.float64)
    second = torch.tensor([2.0, 1.0, 0.5, 8.0], dtype=torch.float64)
    least = smooth_minimum(first, second)
    assert (least <= torch.minimum(first, second)).all()
    residual = 0.85 * least**2 - (first + second) * least + first * second
    torch.testing.assert_close(residual, torch.zeros(4, dtype=torch.float64), rtol=0.0, atol=1e-6)


def test_evaporation_of_an_open_surface_tends_to_penman(wet_day):
    open_surface = potential_evaporation(wet_day, torch.tensor([1e6], dtype=torch.float64))
    slope = 4098.0 * 6.108 * torch.exp(17.27 * wet_day.air / (wet_day.air + 237.3)) / (wet_day.air + 237.3) ** 2
    aerodynamic = 0.008 * wet_day.wind
    penman = (slope * wet_day.net_radiation + 1212.0 * wet_day.vpd * aerodynamic) / (slope + 0.655) * 86400.0 / 2.45e6
    torch.testing.assert_close(open_surface, penman, rtol=1e-6, atol=0.0)
