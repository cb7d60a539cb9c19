"""The size of fluxes leaves out what is not finite, and has a floor."""

from __future__ import annotations

import pytest
import torch
from lit_invert_invariance.spread import flux_spread, largest_flux

NAN, INF = float("nan"), float("inf")


def test_the_spread_is_that_of_the_finite_values_of_each_member():
    fluxes = torch.tensor([[1.0, NAN, 3.0, INF, 8.0], [2.0, 4.0, 6.0, 4.0, -INF]])[..., None]
    expected = [torch.tensor(values).double().std(correction=0).item() for values in ([1.0, 3.0, 8.0], [2.0, 4.0, 6.0, 4.0])]
    assert flux_spread(fluxes).flatten().tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("half", "spread"), [(0.009, 0.01), (0.011, 0.011)])
def test_the_spread_has_a_floor(half, spread):
    fluxes = torch.tensor([1 - half, 1 + half], dtype=torch.float64).reshape(1, 2, 1)
    assert flux_spread(fluxes).item() == pytest.approx(spread, rel=1e-12)


def test_without_a_finite_value_the_spread_is_the_floor_and_nothing_is_large():
    fluxes = torch.full((1, 3, 1), NAN)
    assert (flux_spread(fluxes).item(), largest_flux(fluxes).item()) == (0.01, 0.0)


def test_the_largest_flux_may_be_negative():
    assert largest_flux(torch.tensor([[[1.0], [-5.0], [NAN], [INF]]])).tolist() == [[5.0]]
