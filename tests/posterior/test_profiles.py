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
    assert read_profile(value, 3.84 * value**2, value**2)["flag"] == "flat"
    assert read_profile(value, 3.85 * value**2, value**2)["flag"] == "two-sided"


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
