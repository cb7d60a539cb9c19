"""Identifiability: classes on both sides of their thresholds, and directions in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lit_invert.posterior import laplace
from lit_invert.posterior.directions import describe_directions, describe_trade_offs, trade_off
from lit_invert.posterior.identify import (
    classify,
    correlate,
    cut_prior_sd,
    identify,
    is_pushed,
    practical_rank,
    sd_ratio,
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
    first, second, _ = describe_directions(knowing([0.0, -6.0, -8.0], [2.0, 0.0, 0.0]))
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


def test_parameters_that_the_data_see_but_cannot_tell_apart_are_traded_off():
    mode = knowing([0.0, 6.0, 8.0])
    (found,) = describe_trade_offs(mode, laplace.sample(mode, 4000, generator()))
    assert found["words"] == "s2 can rise while s3 falls, unseen by these data"
    # (I + j j^T)^-1 = I - j j^T / (1 + |j|^2): covariance -48 / 101, variances 65 / 101 and 37 / 101; hardly cut at three sd.
    assert found["correlation"] == pytest.approx(-48 / (65 * 37) ** 0.5, abs=0.01)
    unseen = knowing([0.0, 0.9, 0.9])
    assert describe_trade_offs(unseen, laplace.sample(unseen, 4000, generator())) == []


@pytest.mark.parametrize(("share", "sentence"), [(0.24, ""), (0.27, "leans on its lower bound")])
def test_draws_that_pile_up_at_a_bound_lean_on_it(share, sentence):
    mode = knowing([10.0, 0.0, 0.0])
    piled = torch.linspace(0, 1, 100, dtype=torch.float64)
    draws = torch.zeros(100, 3, dtype=torch.float64)
    draws[:, 0] = torch.where(piled < share, -2.9, -2.0 + 0.01 * piled)  # the bounds are three sd away, and 0.3 is beside them
    draws[:, 1:] = torch.randn(100, 2, generator=generator(), dtype=torch.float64)
    found = identify(mode, draws)
    assert found.leaning == (sentence, "", "")
    assert found.classes[0] == ("at bound" if sentence else "determined")


def test_without_a_strong_partner_a_parameter_is_traded_off_with_several():
    mode = knowing([10.0, 10.0, 0.0])
    draws = torch.randn(4000, 3, generator=generator(), dtype=torch.float64)
    assert identify(mode, draws).traded_with[:2] == ("several", "several")


def test_correlation_is_that_of_torch_and_zero_for_what_does_not_vary():
    draws = torch.randn(50, 3, dtype=torch.float64)
    torch.testing.assert_close(correlate(draws), torch.corrcoef(draws.T))
    still = torch.cat([draws[:, :2], torch.zeros(50, 1, dtype=torch.float64)], dim=1)
    assert correlate(still)[2].tolist() == [0.0, 0.0, 1.0]
