from __future__ import annotations

import numpy as np
import pytest

from lit_invert import solar

SOLSTICES = np.array(["2016-06-21", "2016-12-21"], dtype="datetime64[D]")
EQUINOXES = np.array(["2016-03-20", "2016-09-22"], dtype="datetime64[D]")


def test_declination_reaches_the_tropics_at_the_solstices():
    assert np.rad2deg(solar.declination(SOLSTICES)) == pytest.approx([23.44, -23.44], abs=0.05)


def test_declination_crosses_the_equator_at_the_equinoxes():
    # One day moves the sun by 0.4 degrees, so the day of the equinox is known to half of that.
    assert np.rad2deg(solar.declination(EQUINOXES)) == pytest.approx([0.0, 0.0], abs=0.4)


def test_day_length_at_hesse_agrees_with_the_almanac():
    assert solar.day_length(SOLSTICES, 48.67) == pytest.approx([16.15, 8.25], abs=0.05)


def test_day_length_on_the_equator_is_twelve_hours_and_refraction():
    # The upper limb is seen 2 x 0.8333 degrees of rotation longer: 0.111 h.
    assert solar.day_length(EQUINOXES, 0.0) == pytest.approx([12.111, 12.111], abs=1e-3)


@pytest.mark.parametrize(("latitude", "hours"), [(75.0, [24.0, 0.0]), (-75.0, [0.0, 24.0]), (90.0, [24.0, 0.0])])
def test_day_length_is_clamped_beyond_the_polar_circles(latitude, hours):
    assert solar.day_length(SOLSTICES, latitude).tolist() == hours


def test_hemispheres_mirror_each_other():
    dates = np.arange("2016-01-01", "2017-01-01", dtype="datetime64[D]")
    both = solar.day_length(dates, 40.0) + solar.day_length(dates, -40.0)
    # Day here and night there add up to 24 h but for refraction, which both gain.
    assert np.abs(both - 24.0).max() < 0.4
    assert both.min() > 24.0


def test_sun_noon_is_the_sine_of_the_elevation():
    expected = np.sin(np.deg2rad(90.0 - np.abs(48.67 - np.array([23.44, -23.44]))))
    assert solar.sun_noon(SOLSTICES, 48.67) == pytest.approx(expected, abs=1e-3)


def test_sun_noon_is_zero_in_the_polar_night():
    assert solar.sun_noon(SOLSTICES, 80.0)[1] == 0.0


def test_top_of_atmosphere_averages_to_a_quarter_of_the_solar_constant():
    dates = np.arange("2015-01-01", "2016-01-01", dtype="datetime64[D]")
    latitudes = np.rad2deg(np.arcsin(np.linspace(-0.995, 0.995, 200)))  # equal areas of the globe
    mean = np.mean([solar.top_of_atmosphere(dates, latitude).mean() for latitude in latitudes])
    assert mean == pytest.approx(solar.SOLAR_CONSTANT / 4.0, rel=1e-3)
