"""The rivals of an inversion against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lit_invert.baselines import WIDTH, linear_regression, predict_baselines, seasonal_cycle


def days(first, count):
    return np.datetime64(first) + np.arange(count)


def test_a_sine_over_whole_years_comes_back_damped_by_the_width_of_its_window():
    dates = days("2001-01-01", 1461)
    angle = 2 * np.pi * np.arange(1461) / 365.25
    found = seasonal_cycle(dates, dates, np.sin(angle))
    # the mean of a cosine under von Mises weights is I1(kappa) / I0(kappa), near 1 - 1 / (2 kappa)
    from scipy.special import ive

    kappa = (365.25 / (2 * np.pi * WIDTH)) ** 2
    assert np.ptp(found) / 2 == pytest.approx(ive(1, kappa) / ive(0, kappa), abs=2e-3)  # leap days shift the angle


def test_the_circle_closes_at_new_year_and_years_share_a_cycle():
    known = days("2001-12-20", 20)
    found = seasonal_cycle(days("2001-01-01", 365 * 2), known, np.linspace(1.0, 3.0, 20))
    assert found[364] == pytest.approx(found[365], abs=0.1)
    assert found[100] == found[100 + 365]


def test_a_cycle_stays_between_what_was_observed_and_the_nearest_season_speaks():
    known = days("2001-07-01", 12)
    observed = np.linspace(-2.0, 5.0, 12)
    found = seasonal_cycle(days("2001-01-01", 365), known, observed)
    assert found.min() >= -2.0
    assert found.max() <= 5.0
    assert found[170] < found[200]  # before the first day the first days count most


def test_the_regression_finds_a_line_and_holds_drivers_to_what_it_saw():
    rng = np.random.default_rng(0)
    drivers = rng.normal(size=(300, 3)) * [1.0, 50.0, 1e-4] + [280.0, 150.0, 0.006]
    flux = drivers @ [0.3, 0.02, -900.0] + 4.0
    found = linear_regression(drivers, drivers[:200], flux[:200])
    np.testing.assert_allclose(found[:200], flux[:200], atol=1e-5)
    beyond = drivers[:1].copy()
    beyond[0, 1] = 1e6
    at_most = drivers[:1].copy()
    at_most[0, 1] = drivers[:200, 1].max()
    assert linear_regression(beyond, drivers[:200], flux[:200]) == linear_regression(at_most, drivers[:200], flux[:200])


def test_the_ridge_is_the_one_of_least_generalised_cross_validation():
    rng = np.random.default_rng(1)
    drivers = rng.normal(size=(40, 8))
    flux = drivers @ rng.normal(size=8) * 0.3 + rng.normal(size=40)
    x = (drivers - drivers.mean(0)) / drivers.std(0)
    y = flux - flux.mean()

    def gcv(log_ridge):
        hat = x @ np.linalg.solve(x.T @ x + np.exp(log_ridge) * np.eye(8), x.T)
        return 40 * np.sum((y - hat @ y) ** 2) / (39 - np.trace(hat)) ** 2

    best = minimize_scalar(gcv, bounds=(-10, 12), method="bounded")
    ours = linear_regression(drivers, drivers, flux) - flux.mean()
    hats = [x @ np.linalg.solve(x.T @ x + np.exp(ridge) * np.eye(8), x.T) @ y for ridge in (best.x - 0.4, best.x + 0.4)]
    low, high = (np.linalg.norm(hat) for hat in hats)  # a larger ridge shrinks more; the grid has six a decade
    assert high < np.linalg.norm(ours) < low


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_a_dozen_days_with_more_drivers_do_not_blow_up(count):
    rng = np.random.default_rng(2)
    dates, drivers = days("2001-01-01", 365), rng.normal(size=(365, 12))
    observed, mask = rng.normal(size=365), np.zeros(365, dtype=bool)
    mask[180 : 180 + count] = True
    for found in predict_baselines(dates, drivers, observed, mask).values():
        assert np.isfinite(found).all()
        assert np.abs(found - observed[mask].mean()).max() <= 3 * np.ptp(observed[mask]) + 1e-12


def test_days_outside_the_mask_are_not_looked_at():
    rng = np.random.default_rng(3)
    dates, drivers, observed = days("2001-01-01", 365), rng.normal(size=(365, 2)), rng.normal(size=365)
    mask = np.arange(365) % 3 == 0
    hidden = np.where(mask, observed, np.nan)
    before, after = (predict_baselines(dates, drivers, values, mask) for values in (observed, hidden))
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_drivers_that_do_not_vary_leave_the_mean_and_no_day_leaves_nothing():
    dates, flat = days("2001-01-01", 10), np.full((10, 2), 0.1)
    observed, mask = np.arange(10.0), np.arange(10) < 4
    np.testing.assert_array_equal(predict_baselines(dates, flat, observed, mask)["regression"], np.full(10, 1.5))
    assert all(np.isnan(values).all() for values in predict_baselines(dates, flat, observed, mask & False).values())
