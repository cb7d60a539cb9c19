"""The share of values that are no numbers is counted over prior, box and corners, and judged at 5 %."""

from __future__ import annotations

import pytest
import torch
from lit_invert_invariance.finite import check_nan

from lit_invert import FrozenSurrogate, RunInfo
from lit_invert.testing import ToyNetwork, toy_problem

RUN = RunInfo("check-surrogate", "toy", None, 0)


class Loses(ToyNetwork):
    """Has no number for the first days."""

    def __init__(self, days, value):
        super().__init__()
        self.days, self.value = days, value

    def forward(self, static, forcing):
        fluxes = super().forward(static, forcing)
        return torch.where((torch.arange(forcing.shape[1]) < self.days)[:, None], self.value, fluxes)


class Overflows(ToyNetwork):
    """Has no Rh where the first parameter is on its upper bound."""

    def forward(self, static, forcing):
        *others, rh = super().forward(static, forcing).unbind(-1)
        return torch.stack([*others, torch.where(static[:, :1] > 2.999, torch.inf, rh)], dim=-1)


def check(network):
    problem = toy_problem(n_days=1000)
    return check_nan(problem.variant(surrogate=FrozenSurrogate(network, problem.surrogate.spec).double()), None, RUN)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("days", "outcome"), [(0, "pass"), (49, "pass"), (50, "fail")])
def test_the_share_is_judged_at_five_percent(days, outcome, value):
    verdict = check(Loses(days, value))
    assert verdict.outcome == outcome
    assert verdict.value == pytest.approx(days / 1000, abs=1e-12)
    assert verdict.threshold == 0.05


def test_where_and_in_which_flux():
    verdict = check(Overflows())
    rows = {row["where"]: row for row in verdict.details["table"]}
    assert rows["prior"]["rh"] == rows["box"]["rh"] == rows["corners"]["gpp"] == 0
    assert 0 < rows["corners"]["rh"] < 1
    assert verdict.value == pytest.approx(rows["corners"]["rh"], abs=1e-12)
    assert "of 'rh'" in verdict.message
    assert "corners" in verdict.message


def test_days_of_the_warm_up_do_not_count():
    problem = toy_problem(n_days=1000)
    problem = problem.variant(surrogate=FrozenSurrogate(Loses(110, torch.nan), problem.surrogate.spec).double())
    problem.days[:, :100] = False
    assert check_nan(problem, None, RUN).value == pytest.approx(10 / 900, abs=1e-12)
