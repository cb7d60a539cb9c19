"""Conditions of the day against independent formulas and closed forms."""

from __future__ import annotations

import math

import numpy as np
import torch

from lit_invert import solar
from lit_invert.process.environment import DRIVERS, read_environment, saturation_pressure, top_of_atmosphere


def test_sunlight_without_latitude_agrees_with_the_formula_that_knows_it():
    dates = np.datetime64("2015-01-01") + np.arange(365)
    day_length, noon = (torch.from_numpy(f(dates, 48.67)) for f in (solar.day_length, solar.sun_noon))
    ours, theirs = top_of_atmosphere(day_length, noon).numpy(), solar.top_of_atmosphere(dates, 48.67)
    # the driver's day length counts refraction, and the sun's distance varies by 3.4 % in irradiance
    np.testing.assert_allclose(ours, theirs, rtol=0.06)


def test_noon_light_integrates_to_the_day_s_light(forcing):
    day = read_environment(forcing)
    energy = forcing[..., DRIVERS.index("dswrf")] * 86400.0
    quanta = day.noon_par * day.day_length * 3600.0 * 2.0 / math.pi
    per_joule = quanta / energy
    # between all direct (4.6 * 0.43) and all diffuse light (4.2 * 0.57)
    assert per_joule.min() >= 4.6 * 0.43 - 1e-9
    assert per_joule.max() <= 4.2 * 0.57 + 1e-9


def test_mean_air_is_the_mean_of_ten_days(forcing):
    day = read_environment(forcing)
    torch.testing.assert_close(day.mean_air[0, 100], day.air[0, 91:101].mean())


def test_days_lengthen_in_spring_and_shorten_in_autumn(forcing):
    day = read_environment(forcing)
    assert day.lengthening[0, 80] > 0.999
    assert day.lengthening[0, 265] < 0.001


def test_precipitation_is_snow_in_frost_and_rain_in_warmth(forcing):
    day = read_environment(forcing)
    total = forcing[..., DRIVERS.index("prate")] * 86400.0
    torch.testing.assert_close(day.rain + day.snowfall, total)
    assert (day.snowfall[day.air > 12.0] <= 1e-3 * total[day.air > 12.0]).all()


def test_vapour_pressure_doubles_about_every_eleven_degrees():
    pressure = saturation_pressure(torch.tensor([10.0, 20.0], dtype=torch.float64))
    # 12.27 and 23.37 hPa in the Smithsonian tables
    torch.testing.assert_close(pressure, torch.tensor([12.27, 23.37], dtype=torch.float64), rtol=2e-3, atol=0.0)
