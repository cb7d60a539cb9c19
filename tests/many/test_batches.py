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
