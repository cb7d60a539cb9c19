"""The weight moves by the stated formulas, rests in the dead band, and stays inside its limits."""

from __future__ import annotations

import logging
import math

import pytest
from lit_invert_invariance.lambda_optimizer import InvarianceLambdaOptimizer

from lit_invert import LitInvertError


def test_the_defaults_are_those_of_the_specification():
    steering = InvarianceLambdaOptimizer()
    assert (steering.target_retention, steering.adjustment_rate) == (0.95, 0.1)
    assert (steering.min_lambda, steering.max_lambda, steering.current_lambda) == (0.01, 1.0, 0.1)


@pytest.mark.parametrize("retention", [0.0, 0.5, 0.93, 0.9399])
def test_below_the_band_it_rises_by_the_rate_times_what_is_missing(retention):
    steering = InvarianceLambdaOptimizer({"initial_lambda": 0.3})
    assert steering.update_lambda(retention) == pytest.approx(0.3 + 0.1 * (0.95 - retention), rel=1e-14)


@pytest.mark.parametrize("retention", [0.94, 0.9401, 0.95, 0.9599, 0.96])
def test_inside_the_band_it_rests(retention):
    steering = InvarianceLambdaOptimizer()
    assert steering.update_lambda(retention) == 0.1


@pytest.mark.parametrize("retention", [0.9601, 0.97, 1.0])
def test_above_the_band_it_falls_by_half_the_rate(retention):
    steering = InvarianceLambdaOptimizer({"initial_lambda": 0.3, "adjustment_rate": 0.2})
    assert steering.update_lambda(retention) == pytest.approx(0.3 - 0.5 * 0.2 * (retention - 0.95), rel=1e-14)


def test_the_band_follows_another_target():
    steering = InvarianceLambdaOptimizer({"target_retention": 0.8})
    assert steering.update_lambda(0.79) == steering.update_lambda(0.81) == 0.1
    assert steering.update_lambda(0.7899) > 0.1


def test_it_stays_inside_its_limits_and_leaves_them_again():
    steering = InvarianceLambdaOptimizer({"initial_lambda": 0.98})
    assert [steering.update_lambda(0.0) for _ in range(2)] == [1.0, 1.0]
    assert steering.update_lambda(1.0) == pytest.approx(0.9975, rel=1e-14)
    low = InvarianceLambdaOptimizer({"initial_lambda": 0.011})
    assert low.update_lambda(1.0) == 0.01


def test_a_change_of_more_than_a_hundredth_is_logged(caplog):
    caplog.set_level(logging.INFO, "lit_invert")
    steering = InvarianceLambdaOptimizer({"initial_lambda": 0.5})
    steering.update_lambda(0.86)  # by 0.009
    assert not caplog.messages
    steering.update_lambda(0.84)  # by 0.011
    assert caplog.messages == ["lit-invert: lambda of invariance 0.5090 -> 0.5200 at a retention of 0.840"]


@pytest.mark.parametrize("retention", [-0.001, 1.001, math.nan, math.inf])
def test_what_is_no_share_is_refused_and_changes_nothing(retention):
    steering = InvarianceLambdaOptimizer()
    with pytest.raises(LitInvertError, match="expected a share from 0 to 1"):
        steering.update_lambda(retention)
    assert steering.current_lambda == 0.1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"inital_lambda": 0.2}, "unknown key 'inital_lambda'. Did you mean 'initial_lambda'?"),
        ({"initial_lambda": 2.0}, "out of order"),
        ({"min_lambda": math.nan}, "out of order"),
        ({"max_lambda": math.inf}, "out of order"),
        ({"target_retention": 1.01}, "expected a share above 0"),
        ({"adjustment_rate": -0.1}, "`invariance.steering.adjustment_rate` is -0.1"),
    ],
)
def test_a_wrong_config_is_one_line(config, message):
    with pytest.raises(LitInvertError) as caught:
        InvarianceLambdaOptimizer(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
