"""The line search on lines whose lowest point is known."""

from __future__ import annotations

import pytest
import torch

from lit_invert.solvers.line_search import Point, search
from tests.solvers.problems import real


def along(function, calls):
    """Points of a function of one variable for each member."""

    def evaluate(length, asked):
        calls.append(asked.tolist())
        with torch.enable_grad():
            leaf = length.clone().requires_grad_()
            loss = function(leaf)
            (slope,) = torch.autograd.grad(loss.sum(), leaf)
        loss = loss.detach().nan_to_num(torch.inf)
        return Point(length, loss, slope, length[:, None], slope[:, None])

    return evaluate


def look(function, lengths, most=20):
    calls = []
    evaluate = along(function, calls)
    start = evaluate(torch.zeros_like(lengths), torch.ones_like(lengths, dtype=torch.bool))
    calls.clear()
    return search(evaluate, start, lengths, most), start, calls


@pytest.mark.parametrize("first", [1e-4, 1e-2, 1.0, 1e3])
def test_every_first_length_ends_where_both_wolfe_conditions_hold(first):
    places = real(0.3, 1.0, 40.0)
    found, start, _ = look(lambda a: (a - places) ** 2 + 0.1 * torch.cos(a), torch.full((3,), first, dtype=torch.float64))
    assert (found.loss <= start.loss + 1e-3 * found.length * start.slope).all()
    assert (found.slope >= 0.9 * start.slope).all()


def test_the_cubic_finds_the_minimum_of_a_parabola_in_one_correction():
    found, _, calls = look(lambda a: (a - 0.25) ** 2, real(1.0))
    torch.testing.assert_close(found.length, real(0.25))
    assert len(calls) == 2


def test_a_member_whose_first_length_is_good_is_not_asked_about_again():
    _, _, calls = look(lambda a: (a - real(1.0, 0.01)) ** 2, real(1.0, 1.0))
    assert calls[0] == [True, True]
    assert calls[1:]
    assert all(asked == [False, True] for asked in calls[1:])


def test_a_loss_that_is_not_finite_is_too_far():
    found, start, _ = look(lambda a: -torch.log(1 - a) - 5 * a, real(64.0))
    assert 0 < found.length < 1
    assert found.loss < start.loss


def test_a_line_that_only_rises_gives_the_start():
    found, start, calls = look(lambda a: torch.where(a > 0, 1 + a, -a), real(1.0), most=7)
    assert found.length == 0
    assert found.loss == start.loss
    assert len(calls) == 7
