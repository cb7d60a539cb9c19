from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lit_invert.errors import ConfigError
from lit_invert.losses.misfit import Misfit, masked_mean_square
from lit_invert.testing import check_loss_term, toy_problem


@pytest.fixture
def evaluation():
    """Two members of four days: simulated 1, 2, 3, 4 times the member's number for each of the four outputs, observed zero."""
    base = toy_problem(n_days=4).evaluate(torch.zeros(2, 3, dtype=torch.float64))
    days = torch.arange(1.0, 5.0, dtype=torch.float64)
    simulated = days[None, :, None] * torch.tensor([1.0, 2.0], dtype=torch.float64)[:, None, None]
    shape = (1, 4, 4)
    return replace(
        base,
        simulated=simulated.expand(2, 4, 4),
        observed=torch.zeros(shape, dtype=torch.float64),
        mask=torch.ones(shape, dtype=torch.bool),
    )


def _only(evaluation, **days):
    mask = torch.zeros_like(evaluation.mask)
    for name, observed_days in days.items():
        mask[:, observed_days, evaluation.outputs.index(name)] = True
    return replace(evaluation, mask=mask)


def test_mean_square_over_observed_days(evaluation):
    assert Misfit()(_only(evaluation, nep=[0, 3])).tolist() == [(1 + 16) / 2, 4 * (1 + 16) / 2]


def test_only_the_target_counts(evaluation):
    assert Misfit(target="rh")(_only(evaluation, nep=[0, 3], rh=[2])).tolist() == [9, 36]


def test_no_observed_day_costs_nothing(evaluation):
    assert Misfit()(_only(evaluation, gpp=[0])).tolist() == [0, 0]


def test_multi_output_weights_are_normalised_over_observed_outputs(evaluation):
    seen = _only(evaluation, nep=[0], gpp=[1])  # 1 and 4, weights 1.0 and 0.2
    assert Misfit(multi_output=True)(seen)[0].item() == pytest.approx((1.0 * 1 + 0.2 * 4) / 1.2, rel=1e-14)


def test_multi_output_of_one_output_is_the_plain_misfit(evaluation):
    seen = _only(evaluation, nep=[0, 3])
    assert torch.equal(Misfit(multi_output=True)(seen), Misfit()(seen))


def test_days_count_by_the_inverse_of_their_variance(evaluation):
    sigma = torch.ones_like(evaluation.observed)
    sigma[:, 3] = 2.0  # a quarter of the weight
    seen = replace(_only(evaluation, nep=[0, 3]), sigma=sigma)
    assert Misfit()(seen)[0].item() == pytest.approx((1 + 16 / 4) / 1.25, rel=1e-14)
    assert Misfit(use_sigma=False)(seen)[0].item() == 8.5


def test_equal_sigma_changes_nothing():
    simulated = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    observed, mask = torch.zeros_like(simulated), torch.tensor([[True, False, True]])
    plain = masked_mean_square(simulated, observed, mask)
    assert torch.equal(masked_mean_square(simulated, observed, mask, torch.full_like(simulated, 0.5)), plain)
    assert plain.tolist() == [5.0]


def test_nan_outside_the_mask_reaches_neither_value_nor_gradient():
    simulated = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    nan = torch.tensor([[0.0, torch.nan]], dtype=torch.float64)
    value = masked_mean_square(simulated, nan, torch.tensor([[True, False]]), nan + 1)
    (gradient,) = torch.autograd.grad(value.sum(), simulated)
    assert value.item() == 1.0
    assert gradient.tolist() == [[2.0, 0.0]]


@pytest.mark.parametrize("weights", [{"nep": 0.5, "gpp": 1.0}, {"nep": 1.0, "gpp": -0.1}])
def test_the_target_weighs_most_and_nothing_is_negative(weights):
    with pytest.raises(ConfigError, match="output_weights"):
        Misfit(multi_output=True, output_weights=weights)


def test_unknown_target_names_the_outputs(evaluation):
    with pytest.raises(ConfigError, match=r"'ne' is not a known output .* Did you mean 'nep'"):
        Misfit(target="ne")(evaluation)


@pytest.mark.parametrize("term", [Misfit(multi_output=True), Misfit(use_sigma=False), Misfit(target="gpp")])
def test_contract(term):
    check_loss_term(term)
