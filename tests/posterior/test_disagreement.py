"""What contradicts a class: profiles on both sides of their reading, and equally good starts that ended elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lit_invert.posterior.disagreement import disagreements, spread_of_starts
from lit_invert.results import StartRecord, start_table
from lit_invert.testing import toy_problem

CLASSES = {"a": "determined", "b": "prior only", "c": "determined"}


def closed(low, high, flag="two-sided"):
    return {"flag": flag, "low_closed_by": low, "high_closed_by": high}


def start(loss, units, status="finished"):
    """A start of the toy, whose priors are 2 with a standard deviation of 0.5."""
    units = np.array(units)
    return StartRecord("draw", status, 0, 9.0, loss, math.nan, 5, 1.0, "", 2.0 + 0.5 * units, units)


def test_what_agrees_is_not_mentioned():
    profiles = {"a": closed("data", "data"), "b": closed("prior", "data"), "c": closed("prior", "others")}
    assert disagreements(CLASSES, profiles, {"a": 0.5, "b": 3.0}) == {}


def test_each_contradiction_is_one_sentence():
    profiles = {"a": closed("data", "bound", "one-sided"), "b": closed("data", "data"), "c": closed("prior", "prior")}
    found = disagreements(CLASSES, profiles, {"a": 0.51})
    assert found["a"] == "called determined, but its profile is one-sided and equally good starts of the fit end 0.5 prior sd apart"
    assert found["b"] == "called prior only, but the data close its profile on both sides"
    assert found["c"] == "called determined, but its own prior closes its profile on both sides"


def test_the_spread_is_that_of_one_start_a_cluster_in_the_cut_prior_sd():
    """The toy's bounds are three standard deviations from its priors: the cut prior's own one is a little below one."""
    ends = [start(1.0, [0.0, 0.0, 0.0]), start(1.001, [0.0, 0.05, 0.0]), start(1.005, [2.0, 0.0, 0.0]), start(1.5, [0.0, 0.0, 9.0])]
    found = spread_of_starts(toy_problem(), start_table(ends, ["s1", "s2", "s3"]))
    own = (1 - 2 * 3 * math.exp(-4.5) / math.sqrt(2 * math.pi) / math.erf(3 / math.sqrt(2))) ** 0.5
    assert found["s1"] == pytest.approx(math.sqrt(2) / own, rel=1e-5)
    assert found["s2"] == found["s3"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("other", [start(1.0, [0.01] * 3), start(1.02, [2.0] * 3), start(1.001, [2.0] * 3, "dropped")])
def test_one_answer_has_no_spread(other):
    assert spread_of_starts(toy_problem(), start_table([start(1.0, [0.0] * 3), other], ["s1", "s2", "s3"])) == {}


def test_a_fixed_parameter_has_no_spread():
    problem = toy_problem()
    problem.space.fixed[1] = True
    ends = start_table([start(1.0, [0.0] * 3), start(1.0, [1.0, 0.0, 1.0])], ["s1", "s2", "s3"])
    assert list(spread_of_starts(problem, ends)) == ["s1", "s3"]
