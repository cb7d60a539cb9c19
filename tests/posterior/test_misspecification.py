"""Misspecification: each statistic against scipy's or a closed form, and faults that were put in are found."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from lit_invert.posterior.assessments import (
    assess_drivers,
    assess_memory,
    assess_normality,
    assess_outliers,
    assess_season,
)
from lit_invert.posterior.misspecification import _correct, _distance, _judge, find_misspecification, whitened_residuals
from lit_invert.posterior.target import find_mode
from lit_invert.posterior.twins import make_twins
from lit_invert.testing import toy_problem

DAYS = 360
DATES = np.datetime64("2016-01-01") + np.arange(DAYS)
NOISE = torch.from_numpy(np.random.default_rng(0).standard_normal(200))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy_problem():
    """Return the toy problem with a record of its own prior, noise included."""
    problem = toy_problem(n_days=DAYS)
    mode = find_mode(problem, problem.space.to_theta(problem.space.priors), "nep")
    even = {"nep": replace(mode.noise["nep"], rho=torch.tensor([0.5], dtype=torch.float64))}
    twins = make_twins(problem, replace(mode, noise=even), 1, generator(1))
    return problem.variant(observed=twins.observed)


def assessed(problem, noise=None):
    mode = find_mode(problem, problem.space.to_theta(problem.space.priors), "nep", noise)
    found = find_misspecification(make_twins(problem, mode, 400, generator()), mode, DATES)
    json.dumps(found, allow_nan=False)
    return {test["test"]: test for test in found["tests"]}, found["verdict"]


def test_memory_is_ljung_and_box():
    centred = NOISE.numpy() - NOISE.numpy().mean()
    r = [centred[k:] @ centred[:-k] / (centred @ centred) for k in range(1, 11)]
    statistic = 200 * 202 * sum(r[k - 1] ** 2 / (200 - k) for k in range(1, 11))
    assert assess_memory(NOISE) == pytest.approx((statistic, stats.chi2.sf(statistic, 9)), rel=1e-9)
    assert assess_memory(NOISE.cumsum(0))[1] < 1e-10


def test_normality_is_jarque_and_bera():
    expected = stats.jarque_bera(NOISE.numpy())
    assert assess_normality(NOISE) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    assert assess_normality(NOISE.exp())[1] < 1e-10


def test_ranks_follow_a_driver_as_spearman_says():
    tied = torch.from_numpy(np.random.default_rng(1).integers(0, 5, 200)).double() + 0.5 * NOISE.round()
    value, p = assess_drivers(NOISE, {"light": tied})["follows light"]
    assert value == pytest.approx(stats.spearmanr(NOISE, tied).statistic, rel=1e-9)
    assert p == pytest.approx(2 * stats.norm.sf(abs(value) * 199**0.5), rel=1e-9)
    assert assess_drivers(NOISE, {"constant": torch.ones(200)})["follows constant"] == pytest.approx((0.0, 1.0))


def test_season_is_a_chi_square():
    residuals = torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64)
    dates = np.array(["2016-01-05", "2017-01-06", "2016-07-01"], dtype="datetime64[D]")
    assert assess_season(residuals, dates) == pytest.approx((4**2 / 2 + 4.0, stats.chi2.sf(12.0, 2)), rel=1e-9)


def test_outliers_are_rarer_than_chance():
    residuals = torch.zeros(200, dtype=torch.float64)
    assert assess_outliers(residuals) == (0.0, 1.0)
    residuals[:2] = torch.tensor([4.01, -4.01])
    assert assess_outliers(residuals) == pytest.approx((2.0, stats.binom.sf(1, 200, 2 * stats.norm.sf(4))), rel=1e-6)


def test_distance_is_that_of_the_dense_covariance():
    values, root = (torch.randn(n, 30, generator=generator(n), dtype=torch.float64) for n in (4, 7))
    dense = torch.linalg.inv(torch.eye(30, dtype=torch.float64) + root.T @ root)
    torch.testing.assert_close(_distance(values, root), torch.einsum("nt,ts,ns->n", values, dense, values))


def test_residuals_are_those_of_the_observed_days():
    problem = noisy_problem()
    mask = problem.mask.clone()
    mask[0, ::3, 2] = False
    mode = find_mode(problem.variant(mask=mask), problem.space.to_theta(problem.space.priors), "nep")
    residuals, days = whitened_residuals(mode, "nep")
    assert days.tolist() == [t for t in range(DAYS) if t % 3]
    likelihood = next(term for term in mode.problem.loss_terms if term.name == "likelihood")
    torch.testing.assert_close(residuals.square().sum(), likelihood(mode.problem.evaluate(mode.theta))[0])


def test_one_rare_test_of_many_is_chance_and_none_without_a_number_counts():
    assert _correct([0.02, math.nan, 0.5, 0.02]) == pytest.approx([0.06, math.nan, 0.5, 0.06], nan_ok=True)
    (alone,), (once_more, _, _) = _correct([0.02]), _correct([0.02, 0.5, 0.5])
    verdicts = [_judge("nep", "memory", 1.0, p, corrected)["verdict"] for p, corrected in ((0.02, alone), (0.02, once_more))]
    assert verdicts == ["fail", "pass"]
    assert _judge("nep", "memory", math.nan, math.nan, math.nan)["verdict"] == "not tested"


def test_a_test_without_days_is_not_counted():
    problem = noisy_problem()
    mode = find_mode(problem, problem.space.to_theta(problem.space.priors), "nep")
    few = problem.mask.clone()
    few[0, 1:] = False  # one residual has neither memory nor a shape
    masked = replace(mode, problem=mode.problem.variant(mask=few))
    found = find_misspecification(make_twins(masked.problem, mode, 400, generator()), masked, DATES)
    verdicts = {test["test"]: test["verdict"] for test in found["tests"]}
    assert verdicts["normality"] == "not tested"
    tested = sum(verdict != "not tested" for verdict in verdicts.values())
    assert tested < len(verdicts)
    assert f"of {tested} tests" in found["verdict"]


def test_a_record_of_the_prior_passes():
    tests, verdict = assessed(noisy_problem())
    assert {test["verdict"] for test in tests.values()} == {"pass"}
    assert verdict == f"None of {len(tests)} tests speaks against surrogate, noise and prior."


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("season", lambda days: 2.0 * (days >= 180) * (days < 240)),
        ("outliers", lambda days: 5.0 * (days % 60 == 7)),
        ("days in conflict with the prior", lambda days: 15.0 * (days < 90)),
        ("distance from the prior", lambda days: 4.0 * (-1.0) ** (days // 20)),
    ],
)
def test_faults_of_a_record_are_found(name, fault):
    problem = noisy_problem()
    noise = find_mode(problem, problem.space.to_theta(problem.space.priors), "nep").noise
    observed = problem.observed.clone()
    observed[0, :, 2] += fault(torch.arange(DAYS))
    tests, verdict = assessed(problem.variant(observed=observed), noise)
    assert tests[name]["verdict"] == "fail"
    assert f"NEP {name}" in verdict
