"""Dates of the mean year, by sines whose crossings are known."""

from __future__ import annotations

import numpy as np
import pytest

from lit_invert.report.season import DAYS, Season, day_of_year, find_season, mean_cycle

DATES = np.arange("2001-01-01", "2005-01-01", dtype="datetime64[D]")


def sine(first: float, offset: float = 0.0) -> np.ndarray:
    """Three times the sine of the year that is zero at `first`, raised."""
    return 3 * np.sin(2 * np.pi * (day_of_year(DATES) - first) / DAYS) + offset


def test_smoothing_keeps_the_crossings_of_a_sine_and_damps_it_as_theory_says():
    even = slice(0, 3 * DAYS)  # without the leap year, in which one place counts twice
    cycle = mean_cycle(sine(100.5)[even], DATES[even])
    damping = np.exp(-0.5 * (2 * np.pi * 10 / DAYS) ** 2)
    np.testing.assert_allclose(cycle, damping * sine(100.5)[:DAYS], rtol=0, atol=1e-9)
    assert find_season(cycle) == Season(101, 283, 183, 192, pytest.approx(3 * damping, rel=1e-5))


def test_a_season_may_cross_the_end_of_the_year():
    season = find_season(mean_cycle(sine(250.5), DATES))
    assert (season.start, season.end, season.length) == (251, 68, 183)


@pytest.mark.parametrize(("offset", "length"), [(5.0, DAYS), (-5.0, 0)])
def test_land_that_never_turns_has_no_dates(offset, length):
    season = find_season(mean_cycle(sine(100, offset), DATES))
    assert (season.start, season.end, season.length) == (None, None, length)


def test_gaps_leave_short_ones_bridged_and_long_ones_unknown():
    values = sine(100.5)
    summer = (day_of_year(DATES) > 150) & (day_of_year(DATES) < 160)
    bridged = mean_cycle(np.where(summer, np.nan, values), DATES)
    assert np.isfinite(bridged).all()
    autumn = (day_of_year(DATES) > 200) & (day_of_year(DATES) < 330)
    season = find_season(mean_cycle(np.where(autumn, np.nan, values), DATES))
    assert (season.start, season.end, season.length) == (101, None, None)


def test_a_peak_beside_days_without_a_value_is_not_known():
    summer = (day_of_year(DATES) > 150) & (day_of_year(DATES) < 250)
    season = find_season(mean_cycle(np.where(summer, np.nan, sine(100.5)), DATES))
    assert season.peak_day is None
    assert np.isnan(season.peak)


def test_a_sign_that_gaps_may_hide_has_no_length():
    winter = day_of_year(DATES) > 200
    season = find_season(mean_cycle(np.where(winter, np.nan, sine(100, -5.0)), DATES))
    assert (season.start, season.end, season.length) == (None, None, None)


def test_a_date_has_the_same_place_in_every_year():
    leap, plain = (np.array([f"{year}-{day}" for day in ("02-28", "03-01", "07-04", "12-31")]) for year in (2004, 2003))
    assert day_of_year(leap).tolist() == day_of_year(plain).tolist() == [59, 60, 185, 365]
    assert day_of_year(["2004-02-29"]).tolist() == [59]


def test_no_day_at_all_is_no_season():
    season = find_season(mean_cycle(np.full(len(DATES), np.nan), DATES))
    assert (season.length, season.peak_day) == (None, None)
    assert np.isnan(season.peak)
