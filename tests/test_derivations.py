from __future__ import annotations

import numpy as np
import pytest

from lit_invert import solar
from lit_invert.derivations import background_co2, cloud_cover, low_pass, saturation_vapour_pressure, specific_humidity
from lit_invert.errors import ForcingError


def test_low_pass_keeps_the_mean_and_damps_and_delays_a_wave():
    period, days = 365, 35.0
    keep, omega = np.exp(-1 / days), 2 * np.pi / period
    wave = np.sin(omega * np.arange(2 * period))
    # Transfer function of the filter at the wave's frequency.
    gain = (1 - keep) / (1 - keep * np.exp(-1j * omega))
    expected = np.abs(gain) * np.sin(omega * np.arange(2 * period) + np.angle(gain))
    assert low_pass(wave, days) == pytest.approx(expected, abs=1e-12)
    assert low_pass(wave + 280.0, days).mean() == pytest.approx(280.0, abs=1e-9)


def test_saturation_vapour_pressure_at_known_points():
    # Triple point and boiling point of water; Buck's fit is good to 0.05 % there.
    assert saturation_vapour_pressure(np.array([273.16, 373.12])) == pytest.approx([611.66, 101_325.0], rel=1.5e-3)


def test_specific_humidity_of_water_vapour_alone_is_one():
    assert specific_humidity(np.array([1000.0]), np.array([1000.0])) == pytest.approx([1.0])


def test_cloud_cover_inverts_its_formula_and_is_clipped():
    dates = np.datetime64("2015-06-01") + np.arange(4)
    above = solar.top_of_atmosphere(dates, 48.0)
    shortwave = above * (0.8964 - 0.5392 * np.array([0.0, 0.4, 1.0, 1.3]))
    assert cloud_cover(shortwave, dates, 48.0) == pytest.approx([0.0, 40.0, 100.0, 100.0], abs=1e-9)
    assert cloud_cover(np.zeros(4), dates, -80.0).tolist() == [50.0] * 4


def test_background_co2_is_the_annual_mean_in_the_middle_of_the_year():
    assert background_co2(np.array(["2010-07-02"], dtype="datetime64[D]")) == pytest.approx([390.1], abs=0.01)
    with pytest.raises(ForcingError, match="covers 1990 to 2023, not 1975-01-01"):
        background_co2(np.array(["1975-01-01"], dtype="datetime64[D]"))
