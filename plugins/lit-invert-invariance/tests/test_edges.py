"""Fluxes on the bounds: their size, jumps, and which parameters are looked at."""

from __future__ import annotations

import pytest
import torch
from lit_invert_invariance.edges import check_edges, look_at_edges
from lit_invert_invariance.spread import flux_spread
from torch import nn

from lit_invert import FrozenSurrogate
from lit_invert.testing import ToyNetwork, toy_problem


class Jumps(ToyNetwork):
    """Knows no parameter, but rises by a step where the second is within half a hundredth of its range from the upper bound."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, static, forcing):
        return super().forward(0 * static, forcing) + torch.where(static[:, 1:2] > 3 - 0.005 * 6, self.step, 0.0)[..., None]


class Reaches(nn.Module):
    """Reaches a flux on the lower bound of the first parameter, and stays at ten elsewhere."""

    def __init__(self, flux):
        super().__init__()
        self.flux = flux

    def forward(self, static, forcing):
        size = 10 + (self.flux - 10) * (-static[:, :1] / 3).clamp_min(0)
        return -size[..., None].expand(-1, forcing.shape[1], 4)


def of(network):
    problem = toy_problem()
    return problem.variant(surrogate=FrozenSurrogate(network, problem.surrogate.spec).double())


def test_a_smooth_surrogate_passes():
    verdict = check_edges(toy_problem(), None)
    assert verdict.outcome == "pass"
    largest = max(edge.largest for edge in look_at_edges(toy_problem()))
    assert verdict.value == largest


def test_a_jump_is_advice_and_names_its_bound():
    verdict = check_edges(of(Jumps(3.0)), None)
    assert verdict.outcome == "advice"
    assert "the upper bound of 's2';" in verdict.message
    assert [(row["parameter"], row["bound"]) for row in verdict.details["table"] if row["has_jump"]] == [("s2", "upper")]


@pytest.mark.parametrize(("share", "has_jump"), [(0.09, False), (0.11, True)])
def test_a_jump_is_more_than_a_tenth_of_the_spread(share, has_jump):
    smallest = flux_spread(toy_problem().simulate(torch.zeros(1, 3).double())).min().item()
    edges = look_at_edges(of(Jumps(share * smallest)))
    assert [edge.has_jump for edge in edges] == [False] * 4 + [has_jump, False]
    assert max(edge.last_step for edge in edges) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize(("flux", "outcome"), [(99.9, "pass"), (100.1, "fail")])
def test_a_flux_is_judged_at_a_hundred(flux, outcome):
    verdict = check_edges(of(Reaches(flux)), None)
    assert verdict.outcome == outcome
    assert verdict.value == pytest.approx(flux, rel=1e-12)
    assert ("lower bound of 's1'" in verdict.message) == (outcome == "fail")


class Loses(ToyNetwork):
    """Has no number on every tenth day."""

    def forward(self, static, forcing):
        return torch.where((torch.arange(forcing.shape[1]) % 10 == 0)[:, None], torch.nan, super().forward(static, forcing))


def test_values_without_a_number_are_left_out_and_counted():
    verdict = check_edges(of(Loses()), None)
    assert verdict.outcome == "pass"
    assert {row["left_out"] for row in verdict.details["table"]} == {6 * 4}
