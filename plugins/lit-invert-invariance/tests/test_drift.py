"""Drift: closed forms of its measures, their size when nothing has moved, and drivers in their seasons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from lit_invert_invariance.baseline import Baseline
from lit_invert_invariance.drift import independent_days, ks, persistence_of, psi, psi_by_chance
from lit_invert_invariance.seasons import day_of_year, in_season
from lit_invert_invariance.weather_drift import weather_drift
from scipy.stats import ks_2samp, rankdata

from lit_invert.testing import toy_surrogate

TENTHS = np.arange(100.0)
AIR, SOIL, LIGHT = range(3)


def days(first, count):
    return np.datetime64(first) + np.arange(count)


def weather(dates, seed, persistence=0.0):
    """A year's course of the toy's drivers with noise, whose neighbouring days are alike."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(dates), 3))
    for day in range(1, len(dates)):
        noise[day] = persistence * noise[day - 1] + math.sqrt(1 - persistence**2) * noise[day]
    season = -np.cos(2 * np.pi * day_of_year(dates) / 365)[:, None]
    return np.array([280.0, 280.0, 128.0]) + np.array([8.0, 8.0, 64.0]) * (season + 0.5 * noise)


def drifts(change=lambda forcing: forcing, years=3, new=("2004-01-01", 366), persistence=0.0, seed=1):
    old_days, new_days = days("2001-01-01", 365 * years), days(*new)
    baseline = Baseline(old_days, weather(old_days, 100 + seed, persistence), {})
    return weather_drift(toy_surrogate().spec, change(weather(new_days, seed, persistence)), new_days, baseline)


def test_psi_has_a_closed_form():
    lower_half = np.repeat(TENTHS[:50], 2)
    p, q = np.full(10, 0.1), np.array([20.0] * 5 + [0.5] * 5) / 102.5
    assert psi(TENTHS, lower_half) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert psi(TENTHS, TENTHS[::-1]) == 0.0


def test_psi_does_not_change_with_the_unit():
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=300), rng.normal(0.3, 1.2, size=200)
    assert psi(8 * old + 273.15, 8 * new + 273.15) == pytest.approx(psi(old, new))


def test_psi_sees_a_value_that_many_days_have():
    dry = np.concatenate([np.zeros(60), 1 + np.arange(40.0)])
    wet = np.concatenate([np.zeros(30), 1 + np.arange(0, 40, 40 / 70)])
    p, q = 0.6, 0.3
    assert psi(dry, wet) > (q - p) * math.log(q / p)
    assert psi(np.full(50, 400.0), np.full(50, 402.0)) > 1
    assert psi(np.full(50, 400.0), np.full(50, 398.0)) > 1
    assert psi(np.full(50, 400.0), np.full(50, 400.0)) == 0.0


def test_psi_by_chance_is_exceeded_as_often_as_stated():
    rng = np.random.default_rng(4)
    limit = psi_by_chance(400, 200, chance=0.05)
    found = [psi(rng.normal(size=400), rng.normal(size=200)) > limit for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.02)  # three standard errors of a share of 1000


def test_ks_is_scipys_for_independent_days():
    rng = np.random.default_rng(2)
    old, new = rng.normal(size=900), rng.normal(0.15, 1, size=700)
    distance, chance = ks(old, new)
    expected = ks_2samp(old, new, method="asymp")
    assert distance == expected.statistic
    assert chance == pytest.approx(expected.pvalue, rel=0.1)
    assert ks(old, new, persistence=0.8)[1] > 20 * chance


def test_independent_days_give_the_variance_of_a_mean():
    rng, r, count = np.random.default_rng(3), 0.8, 365
    means = []
    for _ in range(400):
        noise = rng.normal(size=count)
        for day in range(1, count):
            noise[day] = r * noise[day - 1] + math.sqrt(1 - r * r) * noise[day]
        means.append(noise.mean())
    assert 1 / np.var(means) == pytest.approx(independent_days(count, r), rel=0.25)
    assert persistence_of(noise) == pytest.approx(r, abs=0.1)
    assert persistence_of(np.ones(5)) == 0.0
    assert independent_days(10, 0.999) == 1.0


def test_a_rank_in_the_season_is_that_among_its_days():
    old_days = days("2001-01-01", 730)
    old = np.random.default_rng(5).normal(size=(730, 1))
    placed = in_season(old, old_days, old, old_days)
    here = 400
    apart = np.abs(day_of_year(old_days) - day_of_year(old_days)[here])
    season = np.minimum(apart, 365 - apart) <= 15
    assert season.sum() == 62
    expected = (rankdata(old[season, 0]) - 0.5) / 62
    assert placed.ranks[here, 0] == pytest.approx(expected[np.flatnonzero(season).tolist().index(here)])
    assert placed.anomalies[here, 0] == pytest.approx(old[here, 0] - old[season, 0].mean())


def test_a_season_crosses_the_year_and_its_leap_day():
    dates = np.array(["2003-12-31", "2004-12-31", "2004-02-29"], dtype="datetime64[D]")
    assert day_of_year(dates).tolist() == [364, 364, 59]
    january, known = days("2001-01-01", 10), np.arange(10.0)[:, None]
    new_year = in_season(np.array([[4.5]]), dates[:1], known, january)
    assert new_year.ranks.tolist() == [[0.5]]
    assert np.isnan(in_season(np.array([[4.5]]), days("2001-06-01", 1), known, january).ranks).all()


@pytest.mark.parametrize("persistence", [0.0, 0.8])
@pytest.mark.parametrize("new", [("2004-01-01", 366), ("2004-07-01", 31)])
def test_weather_that_has_not_moved_hardly_ever_alerts(persistence, new):
    found = [drift for seed in range(12) for drift in drifts(new=new, persistence=persistence, seed=seed)]
    assert sum(bool(drift.alerts) for drift in found) <= 2  # of 36, with three measures each


def test_a_driver_that_has_moved_is_named_and_no_other():
    def warmer(forcing):
        return forcing + np.array([8.0, 0.0, 0.0])

    found = drifts(warmer, persistence=0.8, seed=2)
    assert [bool(drift.alerts) for drift in found] == [True, False, False]
    assert found[AIR].alerts[0].startswith("tmp_2m has drifted from its season in the baseline: PSI")
    assert found[AIR].shift == pytest.approx(1.0, abs=0.2)
    assert found[AIR].psi > found[AIR].psi_limit


def test_a_season_is_no_drift_and_another_hemisphere_is():
    summer = ("2004-06-01", 91)
    assert [drift.alerts for drift in drifts(new=summer)] == [[], [], []]
    found = drifts(lambda forcing: 2 * np.array([280.0, 280.0, 128.0]) - forcing, new=summer)
    assert all("has drifted" in drift.alerts[0] for drift in found)


def test_what_is_beyond_chance_but_too_small_to_matter_is_no_alert():
    def slightly(forcing):
        forcing = forcing.copy()
        forcing[:, SOIL] = old[:366, SOIL] + 0.1 * 8
        return forcing

    old = weather(days("2001-01-01", 365 * 3), 101)
    old[:, SOIL] = 280.0
    baseline = Baseline(days("2001-01-01", 365 * 3), old, {})
    dates = days("2004-01-01", 366)
    found = weather_drift(toy_surrogate().spec, slightly(weather(dates, 1)), dates, baseline)[SOIL]
    assert found.ks == 1.0
    assert found.distance == pytest.approx(0.1)
    assert found.alerts == []


@pytest.mark.parametrize(("outside", "alerts"), [(3, 0), (4, 1)])
def test_days_outside_the_trained_range_are_counted(outside, alerts):
    spec = toy_surrogate().spec
    spec = replace(spec, drivers=(*spec.drivers[:2], replace(spec.drivers[LIGHT], minimum=-500.0, maximum=500.0)))
    dates = days("2001-01-01", 365)
    forcing = weather(dates, 1)
    baseline = Baseline(dates, forcing.copy(), {})
    forcing[:outside, LIGHT] = 500.1
    found = weather_drift(spec, forcing, dates, baseline)[LIGHT]
    assert found.outside == pytest.approx(outside / 365)
    assert len(found.alerts) == alerts


def test_a_season_without_baseline_is_not_measured():
    dates, new_dates = days("2001-01-01", 31), days("2001-07-01", 31)
    baseline = Baseline(dates, weather(dates, 1), {})
    found = weather_drift(toy_surrogate().spec, weather(new_dates, 1), new_dates, baseline)
    assert all(math.isnan(drift.psi) and drift.alerts == [] for drift in found)
    assert found[AIR].from_training > 0.5


def test_a_driver_on_a_logarithmic_scale_is_compared_there():
    spec = toy_surrogate().spec
    dates = days("2001-01-01", 365)
    forcing = np.exp(weather(dates, 1) / 500)
    logarithmic = replace(spec, drivers=tuple(replace(driver, log=True, mean=0.5, std=0.1) for driver in spec.drivers))
    baseline = Baseline(dates, forcing, {})
    found = weather_drift(logarithmic, forcing * math.exp(0.05), dates, baseline)
    assert [drift.shift for drift in found] == pytest.approx([0.5] * 3)
    forcing[:7, LIGHT] = 0.0
    light = weather_drift(logarithmic, forcing, dates, Baseline(dates, np.exp(weather(dates, 1) / 500), {}))[LIGHT]
    assert light.shift == pytest.approx(0.0, abs=0.02)
