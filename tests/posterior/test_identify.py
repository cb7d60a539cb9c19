"""Identifiability: classes on both sides of their thresholds, directions in words, and what contradicts a class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lit_invert.posterior import laplace
from lit_invert.posterior.identify import (
    classify,
    correlate,
    cut_prior_sd,
    describe_directions,
    disagreements,
    identify,
    is_pushed,
    practical_rank,
    sd_ratio,
    trade_off,
)
from tests.posterior.posteriors import known_mode, noisy_problem


def generator():
    return torch.Generator().manual_seed(0)


def knowing(*rows):
    """The toy's mode with other data: each row a whitened observation's derivatives by the three parameters."""
    mode = known_mode(noisy_problem())
    jacobian = torch.tensor([rows], dtype=torch.float64)
    return replace(mode, jacobian=jacobian, gradient=torch.zeros_like(mode.gradient), units=torch.zeros_like(mode.units))


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 2.0), (-3.0, 3.0), (0.0, 0.5), (-8.0, 8.0)])
def test_the_cut_prior_has_the_standard_deviation_of_scipy(lower, upper):
    stats = pytest.importorskip("scipy.stats")
    ends = (torch.tensor([end], dtype=torch.float64) for end in (lower, upper))
    assert cut_prior_sd(*ends).item() == pytest.approx(stats.truncnorm(lower, upper).std(), rel=1e-6)


def test_a_prior_without_bounds_has_its_own_standard_deviation():
    assert cut_prior_sd(torch.tensor([-torch.inf]), torch.tensor([torch.inf])).item() == 1


@pytest.mark.parametrize(
    ("stuck", "ratio", "alone", "expected"),
    [
        (True, 0.1, 0.1, "at bound"),
        (False, 0.5, 0.5, "determined"),
        (False, 0.5001, 0.5, "traded off"),
        (False, 0.5001, 0.5001, "prior only"),
    ],
)
def test_classes_change_at_their_thresholds(stuck, ratio, alone, expected):
    assert classify(stuck, ratio, alone) == expected


def test_a_known_parameter_a_known_sum_and_an_unknown_one():
    known = knowing([10.0, 0.0, 0.0], [0.0, 10.0, 10.0])
    found = identify(known, laplace.sample(known, 4000, generator()))
    assert found.classes == ("determined", "traded off", "traded off")
    assert found.traded_with == ("", "s3", "s2")
    unknown = knowing([10.0, 0.0, 0.0], [0.0, 0.3, 0.0])
    assert identify(unknown, laplace.sample(unknown, 4000, generator())).classes == ("determined", "prior only", "prior only")


def test_the_variance_ratio_is_that_of_draws_to_the_cut_prior():
    mode = knowing([3.0, 0.0, 0.0])
    ratio = sd_ratio(mode, laplace.sample_all(mode, 20_000, generator()))[0]
    assert ratio[0].item() == pytest.approx(0.1**0.5 / 0.98658, rel=0.03)  # 1 / (1 + 9), and the prior cut at 3 sd
    assert ratio[1:].tolist() == pytest.approx([1.0, 1.0], rel=0.03)


def test_a_mode_on_a_bound_counts_only_where_the_data_push_outwards():
    mode = knowing([1.0, 0.0, 0.0])
    units = torch.tensor([[-3.0, 3.0, -3.0]], dtype=torch.float64)
    pushed = replace(mode, units=units, gradient=torch.tensor([[0.5, -0.5, -0.5]], dtype=torch.float64))
    assert is_pushed(pushed).tolist() == [[True, True, False]]
    inside = replace(pushed, units=units * 0.99)
    assert is_pushed(inside).tolist() == [[False, False, False]]


def test_a_fixed_parameter_has_a_class_of_its_own():
    problem = noisy_problem()
    problem.space._fixed[1] = True
    mode = known_mode(problem)
    found = identify(mode, laplace.sample(mode, 100, generator()))
    assert found.classes[1] == "fixed"
    assert found.variance_ratio.isnan().tolist() == [False, True, False]


def test_the_rank_counts_what_the_data_know_better_than_the_prior():
    for size, rank in ((0.999, 0), (1.001, 1)):
        assert practical_rank(torch.diag(torch.tensor([size, 0.5]))[None]).tolist() == [rank]


def test_directions_are_named_by_their_parameters_with_the_heaviest_up():
    first, second = describe_directions(knowing([0.0, -6.0, -8.0], [2.0, 0.0, 0.0]))
    assert first["eigenvalue"] == pytest.approx(100.0)
    assert first["words"] == "s3 up, s2 up"
    assert first["weights"] == pytest.approx({"s3": 0.8, "s2": 0.6})
    assert first["trade_off"] == "s3 can rise while s2 falls, unseen by these data"
    assert second["words"] == "s1 up"
    assert second["trade_off"] == ""


def test_a_trade_off_needs_a_direction_that_the_data_do_not_see():
    names = ["a", "b"]
    difference = torch.tensor([[8.0, -8.0], [-8.0, 8.0]])
    assert trade_off(difference, [0, 1], names) == "a and b can rise together, unseen by these data"
    assert trade_off(difference + 1.1 * torch.eye(2), [0, 1], names) == ""
    assert trade_off(torch.diag(torch.tensor([8.0, 0.5])), [0, 1], names) == ""


def test_correlation_is_that_of_torch_and_zero_for_what_does_not_vary():
    draws = torch.randn(50, 3, dtype=torch.float64)
    torch.testing.assert_close(correlate(draws), torch.corrcoef(draws.T))
    still = torch.cat([draws[:, :2], torch.zeros(50, 1, dtype=torch.float64)], dim=1)
    assert correlate(still)[2].tolist() == [0.0, 0.0, 1.0]


def test_a_class_is_contradicted_by_profiles_and_by_starts():
    classes = {"a": "determined", "b": "prior only", "c": "determined"}
    by_data = {"flag": "two-sided", "low_closed_by": "data", "high_closed_by": "data"}
    by_prior = {"flag": "two-sided", "low_closed_by": "prior", "high_closed_by": "data"}
    assert disagreements(classes, {"a": by_data, "b": by_prior, "c": by_prior}, {"a": 0.5}) == {}
    found = disagreements(classes, {"a": {"flag": "one-sided"}, "b": by_data}, {"a": 0.51, "c": 2.0})
    assert found["a"] == "called determined, but its profile is one-sided and equally good starts end 0.5 prior sd apart"
    assert found["b"] == "called prior only, but the data close its profile on both sides"
    assert found["c"] == "called determined, but equally good starts end 2.0 prior sd apart"
