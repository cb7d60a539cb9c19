"""Which sites share a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_invert.assembly import Record, build_problem, is_padded_exactly
from lit_invert.many.batches import MOST_FILLING, most_days, plan_batches
from lit_invert.observations import Observations
from lit_invert.parameters import parse_parameter_table
from lit_invert.settings import InversionSettings
from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from lit_invert.surrogates.lstm import LSTMSurrogate

LENGTHS = np.random.default_rng(0).integers(365, 8000, 300).tolist()


def always(shortest, longest):
    return True


def test_every_site_is_in_one_batch_and_none_is_filled_up_much():
    batches = plan_batches(LENGTHS, 32, 1e9, always)
    assert sorted(i for batch in batches for i in batch) == list(range(300))
    for batch in batches:
        days = [LENGTHS[i] for i in batch]
        assert len(batch) <= 32
        assert max(days) * len(days) - sum(days) <= MOST_FILLING * max(days) * len(days)
    assert len(batches) < 60


def test_memory_bounds_a_batch_but_a_single_site_always_runs():
    for batch in plan_batches(LENGTHS, 300, 20_000, always):
        assert len(batch) == 1 or len(batch) * max(LENGTHS[i] for i in batch) <= 20_000
    assert plan_batches([9000, 9000], 8, 5000, always) == [[0], [1]]
    assert most_days(2.0, 96, 4) == pytest.approx(most_days(1.0, 96, 2))


def test_a_surrogate_that_looks_ahead_gets_batches_of_one_length():
    batches = plan_batches([700, 730, 700, 730, 731], 8, 1e9, lambda shortest, longest: False)
    assert batches == [[0, 2], [1, 3], [4]]


def test_each_length_of_a_batch_is_asked_about():
    asked = []

    def pads_exactly(shorter, longest):
        asked.append((shorter, longest))
        return shorter != 1  # of windows, only some lengths change

    assert plan_batches([1080, 1095, 1110, 1110], 8, 1e9, pads_exactly) == [[0], [1], [2, 3]]
    assert {shorter for shorter, _ in asked} <= {0, 1}


def surrogate(climatology):
    network = LSTMSurrogate(2, 3, hidden_size=8, climatology=climatology)
    variables = tuple(Variable(f"x{i}") for i in range(3))
    outputs = tuple(Variable(name, "gC m-2 d-1") for name in ("gpp", "npp", "nep", "rh"))
    spec = SurrogateSpec("small", (Variable("a"), Variable("b")), variables, outputs)
    return FrozenSurrogate(network, spec)


def record(days, seed):
    random = np.random.default_rng(seed)
    dates = np.datetime64("2000-01-01") + np.arange(days)
    observed = random.normal(size=(days, 4))
    observations = Observations(dates, ("gpp", "npp", "nep", "rh"), observed, np.ones((days, 4), bool))
    return Record(torch.as_tensor(random.normal(size=(days, 3))), observations)


@pytest.mark.parametrize(("climatology", "shortest", "exact"), [(False, 100, True), (True, 100, False), (True, 365, True)])
def test_filling_up_is_noticed_where_it_changes_a_site(climatology, shortest, exact):
    table = parse_parameter_table(["name,prior,min,max", "a,0.1,-1,1", "b,0.2,-1,1"])
    records = [record(shortest, 1), record(500, 2)]
    arguments = (InversionSettings(kernel="none"),)
    together = build_problem(surrogate(climatology), table, records, *arguments)
    alone = build_problem(together.surrogate, table, records[:1], *arguments)
    assert is_padded_exactly(together, alone, 0) is exact


def test_windows_are_filled_up_exactly_where_the_last_one_is_not_shifted_alone():
    from lit_invert.surrogates.windows import Windows

    class Weighted(torch.nn.Module):
        """Fluxes of a horizon from all days of the window, the last ones most."""

        def forward(self, static, window):
            days = torch.linspace(0, 1, window.shape[1])[:, None]
            mixed = torch.cumsum(days * window.sum(-1, keepdim=True), 1)[:, -10:]
            return (mixed * static[:, None, :1] + static[:, None, 1:]).expand(-1, -1, 4)

    variables = tuple(Variable(f"x{i}") for i in range(3))
    outputs = tuple(Variable(name, "gC m-2 d-1") for name in ("gpp", "npp", "nep", "rh"))
    spec = SurrogateSpec("windowed", (Variable("a"), Variable("b")), variables, outputs, windows=Windows(30, 10))
    windowed = FrozenSurrogate(Weighted(), spec)
    table = parse_parameter_table(["name,prior,min,max", "a,0.1,-1,1", "b,0.2,-1,1"])
    for days, exact in ((60, True), (65, False)):
        records = [record(days, 1), record(90, 2)]
        together = build_problem(windowed, table, records, InversionSettings(kernel="none"))
        alone = build_problem(windowed, table, records[:1], InversionSettings(kernel="none"))
        assert is_padded_exactly(together, alone, 0) is exact
