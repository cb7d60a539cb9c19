from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lit_invert.losses import Prior
from lit_invert.testing import check_loss_term, toy_problem


def test_zero_at_the_prior_and_squared_distance_elsewhere():
    problem = toy_problem(n_days=4)  # the prior has theta 0, one prior sd (0.5) is one scaled unit
    theta = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 0.0]], dtype=torch.float64)
    assert Prior()(problem.evaluate(theta)).tolist() == [0.0, 5.0]


def test_prior_sd_is_the_unit_where_asked():
    evaluation = toy_problem(n_days=4).evaluate(torch.tensor([[1.0, -2.0, 0.0]], dtype=torch.float64))
    evaluation = replace(evaluation, prior_sd_scaled=torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    assert Prior(unit="prior_sd")(evaluation).tolist() == [4.0 + 4.0]


@pytest.mark.parametrize("unit", ["scaled", "prior_sd"])
def test_contract(unit):
    check_loss_term(Prior(unit=unit))
