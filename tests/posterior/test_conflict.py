"""Prior-data conflict: days that were pushed out of the prior's reach are listed, those inside are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_invert.posterior.conflict import CONFLICT, conflict_distance, count_conflicts, find_conflicts, own_distances
from lit_invert.posterior.target import find_mode
from lit_invert.posterior.twins import make_twins
from lit_invert.testing import toy_problem

DATES = np.arange(np.datetime64("2016-01-01"), np.datetime64("2016-03-01"))


def generator():
    return torch.Generator().manual_seed(0)


def mode_of(problem):
    return find_mode(problem, problem.space.to_theta(problem.space.priors), "nep")


def pushed(problem, days, amount):
    observed = problem.observed.clone()
    observed[0, days, 2] += amount
    return problem.variant(observed=observed)


def conflicts(problem, mode):
    return find_conflicts(make_twins(problem, mode, 200, generator()), ["nep"], DATES)


def test_a_record_that_the_prior_makes_has_no_conflict():
    problem = toy_problem()
    assert conflicts(problem, mode_of(problem)) == []


def test_records_of_the_prior_are_each_held_against_the_others():
    problem = toy_problem()
    records = make_twins(pushed(problem, [10, 11, 13], 20.0), mode_of(problem), 200, generator())
    made = records.observed[..., 2].double().numpy()
    others = [np.delete(made, i, axis=0) for i in range(200)]
    expected = np.stack([(made[i] - rest.mean(0)) / rest.std(0, ddof=1) for i, rest in enumerate(others)])
    np.testing.assert_allclose(own_distances(records, "nep").numpy(), expected, rtol=1e-9)
    found = count_conflicts(records, ["nep"])
    assert (found["days"], found["n"]) == (3, 60)
    assert found["expected_days"] == pytest.approx((np.abs(expected) > CONFLICT).sum(1).mean(), rel=1e-12)
    assert found["expected_days"] > 0


def test_days_out_of_reach_are_listed_the_furthest_first():
    problem = toy_problem()
    mode = mode_of(problem)
    impossible = pushed(pushed(problem, [10, 11, 13], 20.0), [40], -90.0)
    far, near = conflicts(impossible, mode)
    assert (far["flux"], far["from"], far["to"], far["days"], far["direction"]) == ("nep", "2016-02-10", "2016-02-10", 1, "below")
    assert (near["from"], near["to"], near["days"], near["direction"]) == ("2016-01-11", "2016-01-14", 3, "above")
    assert far["distance_in_sd"] < -near["distance_in_sd"] < -CONFLICT


def test_a_day_counts_just_beyond_the_limit_and_not_before():
    problem = toy_problem()
    mode = mode_of(problem)
    predicted = make_twins(problem, mode, 200, generator()).observed[:, 20, 2].double()
    for distance, spells in ((CONFLICT - 0.01, 0), (CONFLICT + 0.01, 1)):
        there = predicted.mean() + distance * predicted.std() - problem.observed[0, 20, 2]
        found = conflicts(pushed(problem, [20], there), mode)
        assert len(found) == spells
    assert found[0]["distance_in_sd"] == pytest.approx(CONFLICT + 0.01)


def test_days_without_an_observation_are_in_no_conflict():
    mask = torch.ones(1, 60, 4, dtype=torch.bool)
    mask[0, 20] = False
    problem = toy_problem(mask=mask)
    records = make_twins(problem, mode_of(problem), 50, generator())
    records.problem.observed[0, 20, 2] = 1e6
    assert conflict_distance(records, "nep")[20] == 0
