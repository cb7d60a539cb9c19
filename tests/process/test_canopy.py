"""Photosynthesis against a numerical integral and its limits."""

from __future__ import annotations

import math

import pytest
import torch

from lit_invert.process.canopy import (
    carbon_response,
    compensation_point,
    photosynthesise,
    temperature_response,
    water_response,
)
from lit_invert.process.environment import Environment, read_environment
from lit_invert.process.statics import Statics


@pytest.fixture
def prior(table):
    return Statics(*table.prior[None].unbind(-1))


@pytest.fixture
def summer_day(forcing):
    return Environment(*(values[:, 180] for values in read_environment(forcing)))


def test_temperature_response_is_one_at_the_optimum_and_zero_beyond_the_limits(prior):
    at = torch.stack([prior.topt, prior.tmin, prior.tmax, prior.tmin - 5.0, prior.tmax + 5.0])
    expected = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(temperature_response(prior, at), expected)


def test_water_response_is_one_in_a_full_bucket_and_zero_in_an_empty_one():
    half = torch.tensor(0.3)
    assert water_response(half, torch.tensor(1.0)) == 1.0
    assert water_response(half, torch.tensor(0.0)) == 0.0


def test_carbon_response_at_the_compensation_point_is_its_floor(prior):
    compensation = compensation_point(prior, torch.tensor(20.0, dtype=torch.float64))
    torch.testing.assert_close(compensation, prior.cmpcd0)
    torch.testing.assert_close(carbon_response(prior, compensation, compensation), torch.full_like(compensation, 0.3))


def test_canopy_formula_equals_the_integral_over_layers_and_hours(prior, summer_day):
    """Hyperbolic leaves under light that falls as exp(-K l) and runs as sin(pi h / N)^2 over the day, by midpoint rule."""
    leaf_area = torch.tensor([4.0], dtype=torch.float64)
    canopy = photosynthesise(prior, summer_day, leaf_area, torch.ones(1, dtype=torch.float64))
    extinction = (prior.ek0 / summer_day.light_path).item()
    # Read capacity and quantum yield back from the two limits of the canopy formula is not possible, so rebuild them at
    # the internal carbon dioxide that the conductance implies.
    compensation = compensation_point(prior, summer_day.air)
    openness = prior.gs_b1 / ((summer_day.co2 - compensation) * (1.0 + summer_day.vpd / prior.gs_b2))
    rate = (canopy.conductance - 0.01) / openness
    internal = summer_day.co2 - 1.56 * rate / canopy.conductance
    saturated = (prior.pmax * temperature_response(prior, summer_day.air) * carbon_response(prior, internal, compensation)).item()
    below = 52.0 - summer_day.air
    quantum = (prior.lue * below / (3.5 + 0.75 * below) * internal / (90.0 + 0.6 * internal)).item()

    layers = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 * 4.0
    hours = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    light = summer_day.noon_par * torch.sin(math.pi * hours)[:, None] ** 2 * extinction * torch.exp(-extinction * layers)
    leaves = saturated * quantum * light / (saturated + quantum * light)
    integral = leaves.mean() * 4.0 * summer_day.day_length * 3600.0 * 12e-6
    torch.testing.assert_close(canopy.gpp, integral, rtol=1e-4, atol=0.0)


def test_no_light_no_leaves_or_no_water_means_no_production(prior, summer_day):
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    assert photosynthesise(prior, summer_day, none, one).gpp.abs() < 1e-6
    assert photosynthesise(prior, summer_day, 3.0 * one, none).gpp.abs() < 1e-3
    assert photosynthesise(prior, summer_day._replace(noon_par=none), 3.0 * one, one).gpp.abs() < 1e-6


def test_stomata_close_in_dry_air(prior, summer_day):
    one = torch.ones(1, dtype=torch.float64)
    moist, dry = (photosynthesise(prior, summer_day._replace(vpd=vpd * one), 3.0 * one, one).conductance for vpd in (2.0, 30.0))
    assert dry < 0.6 * moist
