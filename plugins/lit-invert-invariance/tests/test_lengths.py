"""The memory of a recursion against its own closed form, and networks that look at days to come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lit_invert_invariance.lengths import LATER, MEMORY_TOLERANCE, check_length
from torch import nn

from lit_invert import FrozenSurrogate
from lit_invert.testing import ToyNetwork, toy_problem

DAYS = 400
KEPT = 0.9


class Remembers(nn.Module):
    """A pool that loses a share of itself each day and takes up the light; it is empty before the first day."""

    def forward(self, static, forcing):
        pool, days = torch.zeros_like(forcing[:, 0, 2]), []
        for light in forcing[..., 2].unbind(1):
            pool = KEPT * pool + light
            days.append(pool)
        return torch.stack(days, dim=1)[..., None].expand(len(static), -1, 4)


class LooksAhead(ToyNetwork):
    """Sees the mean of the first days, as many as it is told."""

    def __init__(self, days):
        super().__init__()
        self.days = days

    def forward(self, static, forcing):
        return super().forward(static, forcing) + forcing[:, : self.days, 2].mean(1)[:, None, None]


class Loses(Remembers):
    """Has no number on every tenth day."""

    def forward(self, static, forcing):
        return torch.where((torch.arange(forcing.shape[1]) % 10 == 0)[:, None], torch.nan, super().forward(static, forcing))


def check(network, n_days=DAYS, **spec):
    problem = toy_problem(n_days=n_days)
    surrogate = FrozenSurrogate(network, replace(problem.surrogate.spec, **spec)).double()
    forcing = problem.forcing.clone()
    forcing[0, :, 2] += 30 * torch.sin(torch.arange(n_days, dtype=torch.float64) / 2)
    return check_length(problem.variant(surrogate=surrogate, forcing=forcing), None), forcing


def expected_memory(forcing):
    """Return the days after which what is left of the pool that a later start lacks is within the tolerance."""
    light = (forcing[0, :, 2].numpy() - 128) / 64
    pool = np.array([sum(KEPT ** (day - past) * light[past] for past in range(day + 1)) for day in range(DAYS)])
    lacks = [abs(pool[start - 1]) * KEPT ** np.arange(1, DAYS) > MEMORY_TOLERANCE * pool.std() for start in LATER]
    return max(int(lack.sum()) for lack in lacks)


def test_a_recursion_has_the_memory_of_its_closed_form():
    verdict, forcing = check(Remembers())
    memory = expected_memory(forcing)
    assert memory > 20
    assert (verdict.outcome, verdict.value, verdict.threshold) == ("advice", memory, 0)
    assert f"felt for {memory} days, the stated warm-up is 0" in verdict.message
    assert "days to come" not in verdict.message


def test_a_warmup_that_covers_the_memory_passes():
    memory = expected_memory(check(Remembers())[1])
    assert check(Remembers(), warmup_days=memory)[0].outcome == "pass"
    assert check(Remembers(), warmup_days=memory - 1)[0].outcome == "advice"


def test_a_network_without_memory_passes():
    verdict, _ = check(ToyNetwork())
    assert (verdict.outcome, verdict.value) == ("pass", 0)
    assert [row["change"] for row in verdict.details["table"]] == [0, 0, 0, 0]


@pytest.mark.parametrize(("days", "seen"), [(DAYS, "later days"), (365, "the whole first year")])
def test_days_to_come_are_advice(days, seen):
    verdict, _ = check(LooksAhead(days))
    assert verdict.outcome == "advice"
    assert f"the surrogate looks at {seen}" in verdict.message


def test_values_without_a_number_are_left_out_and_counted():
    verdict, forcing = check(Loses())
    whole, part = np.arange(DAYS) % 10 == 0, np.arange(DAYS - LATER[0]) % 10 == 0
    assert verdict.details["table"][2]["left_out"] == 4 * (whole[LATER[0] :] | part).sum()
    assert abs(verdict.value - expected_memory(forcing)) <= 1  # that day may have no number


@pytest.mark.parametrize(("n_days", "spec"), [(179, {}), (DAYS, {"fixed_length": DAYS})])
def test_a_record_that_cannot_be_cut_has_no_verdict(n_days, spec):
    assert check(ToyNetwork(), n_days, **spec)[0] is None
    assert check(ToyNetwork(), 180)[0] is not None
