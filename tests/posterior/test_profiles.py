"""Profiles: parabolas where the surrogate is linear, open at a bound, relative to the lowest point that was seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from scipy.stats import chi2

from lit_invert.errors import ConfigError
from lit_invert.posterior.profiles import LEVELS, profile, read_profile
from lit_invert.posterior.target import to_theta
from tests.posterior.linear import covariance_of, linear_mode


def test_levels_are_quantiles_of_chi_square():
    for percent, level in LEVELS.items():
        assert level == pytest.approx(chi2.ppf(percent / 100, 1), abs=1e-6)


def test_a_linear_surrogate_has_parabolas_and_their_intervals():
    _, mode = linear_mode(sigma=0.3)
    found = profile(mode, ["s2", "s1"])
    for name, place in (("s1", 0), ("s2", 1)):
        table = found.table[found.table["parameter"] == name]
        deviation = covariance_of(mode)[place, place].sqrt().item()
        centre = mode.units[0, place].item()
        distance = ((table["value"] - 2.0) / 0.5 - centre) / deviation
        inside = distance.abs() < 4.5  # no other parameter has reached a bound there
        assert inside.sum() >= 17
        np.testing.assert_allclose(table["rise"][inside], distance[inside] ** 2, atol=0.02)
        flags = found.flags[name]
        assert flags["flag"] == "two-sided"
        assert flags["low95"] == pytest.approx(2.0 + 0.5 * (centre - 1.959964 * deviation), abs=2e-3)
        assert flags["high50"] == pytest.approx(2.0 + 0.5 * (centre + 0.67449 * deviation), abs=2e-3)
        assert flags["low95"] < flags["low90"] < flags["low50"] < flags["high50"] < flags["high90"] < flags["high95"]
    assert list(found.flags) == ["s2", "s1"]
    assert found.fall == pytest.approx(0.0, abs=0.02)


def test_rises_among_bounds_agree_with_bounded_least_squares():
    _, mode = linear_mode(sigma=1.0, offset=4.0)
    table = profile(mode, ["s1"]).table
    jacobian, optimum = mode.jacobian[0].numpy(), mode.units[0].numpy()
    # the whitened residuals at zero, of which only what the Jacobian sees matters
    half_gradient = mode.gradient[0].numpy() - optimum - jacobian.T @ jacobian @ optimum
    residuals = np.linalg.lstsq(jacobian.T, half_gradient, rcond=None)[0]
    stacked, start = np.vstack([jacobian, np.eye(3)]), np.concatenate([residuals, np.zeros(3)])

    def best(value: float) -> float:
        right = -start - stacked[:, 0] * value
        return 2 * lsq_linear(stacked[:, 1:], right, (-3.0, 3.0), tol=1e-12).cost

    expected = np.array([best((value - 2.0) / 0.5) for value in table["value"]])
    np.testing.assert_allclose(table["rise"], expected - expected.min(), atol=0.02)


def test_a_parameter_that_the_data_do_not_see_is_closed_by_its_prior():
    _, mode = linear_mode(sigma=200.0)
    flags = profile(mode, ["s1"]).flags["s1"]
    assert (flags["flag"], flags["low_closed_by"], flags["high_closed_by"]) == ("two-sided", "prior", "prior")
    assert flags["high95"] == pytest.approx(2.0 + 0.5 * 1.959964, abs=5e-3)


def test_a_profile_that_ends_at_its_bound_is_open_there():
    _, mode = linear_mode(sigma=1.0, offset=4.0)
    flags = profile(mode, ["s1", "s2"]).flags
    for name, side, bound in (("s1", "high", 3.5), ("s2", "low", 0.5)):
        assert flags[name]["flag"] == "one-sided"
        assert flags[name][f"{side}_closed_by"] == "bound"
        assert flags[name][f"{side}50"] == flags[name][f"{side}95"] == pytest.approx(bound)


def test_flat_is_open_at_both_ends_and_levels_decide():
    value = np.linspace(-1.0, 1.0, 21)
    assert read_profile(value, 3.84 * value**2, value**2, 0 * value)["flag"] == "flat"
    assert read_profile(value, 3.85 * value**2, value**2, 0 * value)["flag"] == "two-sided"


def test_a_profile_above_the_lowest_of_all_is_read_from_its_own_lowest():
    value = np.linspace(-3.0, 3.0, 61)
    raised = read_profile(value, value**2 + 5.0, 0.9 * value**2 + 2.0, 0.1 * value**2)
    assert raised == pytest.approx(read_profile(value, value**2, 0.9 * value**2, 0.1 * value**2))
    assert raised["high95"] == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize("never", [np.inf, np.nan])
def test_places_that_cannot_be_simulated_close_an_interval_beside_the_last_that_can(never):
    value = np.linspace(-3.0, 3.0, 61)
    rise = np.where(value > 0.45, never, value**2)
    read = read_profile(value, rise, np.where(value > 0.45, never, 0.9 * value**2), 0.1 * value**2)
    assert (read["flag"], read["high_closed_by"]) == ("two-sided", "data")
    assert read["high50"] == pytest.approx(0.4, abs=1e-5)
    assert read["high95"] == pytest.approx(0.4, abs=1e-5)
    assert read["low95"] == pytest.approx(-1.959964, abs=1e-5)


@pytest.mark.parametrize(
    ("data", "own", "closed_by"), [(0.35, 0.34, "data"), (0.33, 0.34, "prior"), (0.33, 0.33, "others"), (-0.5, 0.7, "others")]
)
def test_the_largest_part_of_the_rise_closes_an_interval(data, own, closed_by):
    """Whatever the profile's lowest point is above: only what rises from there on counts."""
    value = np.linspace(-3.0, 3.0, 61)
    read = read_profile(value, value**2 + 0.4, data * value**2, own * value**2)
    assert read["low_closed_by"] == read["high_closed_by"] == closed_by


def test_parts_of_a_rise_are_those_of_the_linear_problem():
    """Along the ridge of s1, (C e) / C_11 from the mode, the data rise by its information and the prior of s1 by u^2."""
    _, mode = linear_mode(sigma=0.3)
    table = profile(mode, ["s1"]).table
    covariance, centre = covariance_of(mode), mode.units[0, 0].item()
    ridge = covariance[:, 0] / covariance[0, 0]
    step = (table["value"].to_numpy() - 2.0) / 0.5 - centre
    slope = (-2 * mode.units[0, mode.free] @ ridge).item()  # of the data at the mode, where the prior's is its opposite
    data = step**2 * (ridge @ mode.information[0] @ ridge).item() + slope * step
    inside = np.abs(step) < 4.5 * covariance[0, 0].sqrt().item()
    np.testing.assert_allclose(table["data_rise"][inside], data[inside], atol=0.02)
    np.testing.assert_allclose(table["own_rise"][inside], ((centre + step) ** 2 - centre**2)[inside], atol=0.02)


def test_a_mode_that_is_not_the_highest_is_found_out():
    _, mode = linear_mode(sigma=0.3)
    beside = mode.units + torch.tensor([0.5, 0.0, 0.0])
    wrong = replace(mode, units=beside, theta=to_theta(mode.problem, beside))
    found = profile(wrong, ["s2"])
    height = mode.problem(wrong.theta).total - mode.problem(mode.theta).total
    assert found.fall == pytest.approx(height.item(), rel=0.02)
    assert found.table["rise"].min() >= 0


def test_an_unknown_parameter_is_one_clear_line():
    _, mode = linear_mode()
    with pytest.raises(ConfigError, match="'s9' is not a known free static parameter"):
        profile(mode, ["s1", "s9"])
