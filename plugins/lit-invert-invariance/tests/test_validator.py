"""Every threshold of the specification, on both sides."""

from __future__ import annotations

import math

import pytest
from lit_invert_invariance.validator import (
    InvarianceValidator,
    judge_nan,
    judge_net_expectancy,
    judge_onnx,
    judge_redundancy,
    judge_retention,
    judge_spearman,
    net_expectancy_change,
)

GOOD = {"retention": 0.95, "net_exp_degradation": 0.0, "spearman_rho": 1.0, "onnx_degradation": 0.0, "nan_ratio": 0.0}


@pytest.mark.parametrize(
    ("judge", "value", "outcome"),
    [
        (judge_retention, math.nextafter(0.94, 0), "fail"),
        (judge_retention, 0.94, "pass"),
        (judge_retention, 0.96, "pass"),
        (judge_retention, math.nextafter(0.96, 1), "advice"),
        (judge_net_expectancy, math.nextafter(5.0, 0), "pass"),
        (judge_net_expectancy, 5.0, "fail"),
        (judge_spearman, 0.90, "advice"),
        (judge_spearman, math.nextafter(0.90, 1), "pass"),
        (judge_onnx, math.nextafter(1.5, 0), "pass"),
        (judge_onnx, 1.5, "fail"),
        (judge_nan, math.nextafter(0.05, 0), "pass"),
        (judge_nan, 0.05, "fail"),
        (judge_redundancy, 0.95, "pass"),
        (judge_redundancy, -0.951, "advice"),
        (judge_redundancy, 0.951, "advice"),
    ],
)
def test_each_threshold_has_two_sides(judge, value, outcome):
    assert judge(value) == outcome


@pytest.mark.parametrize("judge", [judge_retention, judge_net_expectancy, judge_onnx, judge_nan])
def test_what_was_not_measured_does_not_pass(judge):
    assert judge(math.nan) == "fail"


def test_good_numbers_pass_in_every_word():
    assert InvarianceValidator().validate_all(**GOOD) == {
        "retention_ok": True,
        "netexp_ok": True,
        "spearman_ok": True,
        "onnx_ok": True,
        "nan_ok": True,
        "all_passed": True,
    }


@pytest.mark.parametrize(
    ("name", "key", "last_good", "first_bad"),
    [
        ("retention", "retention_ok", 0.93, 0.9299),
        ("retention", "retention_ok", 0.97, 0.9701),
        ("net_exp_degradation", "netexp_ok", 4.999, 5.0),
        ("spearman_rho", "spearman_ok", 0.9001, 0.90),
        ("onnx_degradation", "onnx_ok", 1.499, 1.5),
        ("nan_ratio", "nan_ok", 0.0499, 0.05),
    ],
)
def test_the_literal_booleans_have_the_specifications_edges(name, key, last_good, first_bad):
    validate = InvarianceValidator().validate_all
    assert validate(**{**GOOD, name: last_good})["all_passed"]
    bad = validate(**{**GOOD, name: first_bad})
    assert [word for word, holds in bad.items() if not holds] == [key, "all_passed"]
    assert not validate(**{**GOOD, name: math.nan})[key]


def test_too_much_retention_is_advice_in_the_flow_and_false_in_the_literal_reading():
    assert judge_retention(1.0) == "advice"
    assert not InvarianceValidator().validate_all(**{**GOOD, "retention": 1.0})["retention_ok"]


@pytest.mark.parametrize(
    ("original", "scaled", "change"),
    [(200.0, 210.0, 5.0), (-200.0, -190.0, 5.0), (-1.0, 1.0, 200.0), (0.0, 3.0, 100.0), (0.0, 0.0, 100.0)],
)
def test_the_expected_value_changes_in_percent(original, scaled, change):
    assert net_expectancy_change(original, scaled) == pytest.approx(change)


def test_five_percent_in_decimals_is_five_percent():
    assert judge_net_expectancy(net_expectancy_change(3.0, 3.15)) == "fail"
    assert judge_net_expectancy(net_expectancy_change(3.0, 3.1499)) == "pass"


def test_an_expected_value_that_is_lost_is_no_small_change():
    assert net_expectancy_change(1.0, math.nan) == math.inf
