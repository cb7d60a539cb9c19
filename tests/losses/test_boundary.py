from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lit_invert.errors import ConfigError
from lit_invert.losses import Boundary
from lit_invert.testing import check_loss_term, toy_problem


def _price(physical, margin=0.1):
    evaluation = toy_problem(1, n_days=4).evaluate(torch.zeros(1, 1, dtype=torch.float64))
    at = torch.tensor([[physical]], dtype=torch.float64)
    return Boundary(margin)(replace(evaluation, physical=at)).item()


def test_free_inside_and_square_in_the_margin():  # bounds 0.5 to 3.5, so a margin of 0.1 begins at 0.8 and 3.2
    assert _price(0.8) == pytest.approx(0, abs=1e-30)
    assert _price(2.0) == 0
    assert _price(0.65) == pytest.approx(0.05**2, rel=1e-12)
    assert _price(3.35) == pytest.approx(0.05**2, rel=1e-12)
    assert _price(0.2) == pytest.approx(0.2**2, rel=1e-12)


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_a_missing_bound_costs_nothing_and_leaves_the_gradient_finite(side):
    evaluation = toy_problem(1, n_days=4).evaluate(torch.zeros(1, 1, dtype=torch.float64))
    physical = torch.full((1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    infinite = torch.full((1, 1), -torch.inf if side == "lower" else torch.inf, dtype=torch.float64)
    value = Boundary()(replace(evaluation, physical=physical, **{side: infinite}))
    (gradient,) = torch.autograd.grad(value.sum(), physical)
    assert (value.item(), gradient.item()) == (0.0, 0.0)


@pytest.mark.parametrize("margin", [-0.1, 0.6])
def test_margin_is_a_share(margin):
    with pytest.raises(ConfigError, match=r"expected a share between 0 and 0\.5"):
        Boundary(margin)


def test_contract():
    check_loss_term(Boundary(margin=0.4))


def test_bounds_that_meet_leave_no_room_and_no_price():
    evaluation = toy_problem(1, n_days=4).evaluate(torch.zeros(1, 1, dtype=torch.float64))
    met = torch.tensor([[3.5]], dtype=torch.float64)
    assert Boundary(0.1)(replace(evaluation, physical=met, lower=met, upper=met)).item() == 0
