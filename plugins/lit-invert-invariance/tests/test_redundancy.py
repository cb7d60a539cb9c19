"""Rank correlations of drivers against scipy, and which of two is named as the one to drop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lit_invert_invariance.redundancy import check_redundancy, driver_influence, rank_correlations
from lit_invert_invariance.spread import flux_spread
from scipy import stats

from lit_invert.testing import toy_forcing, toy_problem


def weather(change):
    """Return the toy with forcing changed by a function of its columns."""
    forcing = toy_forcing(60, torch.float64)
    change(*forcing.unbind(-1))
    return toy_problem().variant(forcing=forcing)


def test_correlations_are_those_of_scipy():
    values = np.random.default_rng(0).integers(0, 20, (80, 4)).astype(float)
    values[:, 3] += values[:, 1]
    np.testing.assert_allclose(rank_correlations(values), stats.spearmanr(values).statistic, rtol=1e-12)


def test_a_driver_that_does_not_vary_correlates_with_none():
    values = np.random.default_rng(0).normal(size=(80, 2))
    values[:, 1] = 7.0
    assert rank_correlations(values).tolist() == [[pytest.approx(1.0), 0.0], [0.0, 0.0]]


def test_what_a_driver_does_is_measured_by_its_absence():
    """At the prior NEP and GPP of the toy are linear in light and Rh in soil warmth, and air temperature does nothing."""
    problem = toy_problem()
    air, soil, light = driver_influence(problem, problem.forcing)
    spread = flux_spread(problem.simulate(torch.zeros(1, 3).double()))[0]
    of_light, of_soil = (problem.forcing[0, :, i].std(correction=0) / problem.surrogate.spec.drivers[i].std for i in (2, 1))
    changes_by_light = torch.stack([4 * of_light, 2 * of_light, 2 * of_light, 0 * of_light]) / spread
    changes_by_soil = torch.stack([0.5 * of_soil, 0.5 * of_soil]) / spread[2:]
    assert air == 0
    assert light == pytest.approx(changes_by_light.square().mean().sqrt().item(), rel=1e-9)
    assert soil == pytest.approx((changes_by_soil.square().sum() / 4).sqrt().item(), rel=1e-9)


def test_the_driver_that_does_less_can_be_dropped():
    problem = weather(lambda air, soil, light: air.copy_(250 + torch.exp((soil - 270) / 9)))
    verdict = check_redundancy(problem, None)
    assert (verdict.outcome, verdict.value) == ("advice", pytest.approx(1.0))
    assert "tmp_2m and tmp10_soil (1.00; drop tmp_2m)" in verdict.message
    assert np.array(verdict.details["matrix"]).shape == (3, 3)


def test_a_driver_that_falls_where_the_other_rises_is_redundant_too():
    verdict = check_redundancy(weather(lambda air, soil, light: air.copy_(600 - light)), None)
    (row,) = verdict.details["table"]
    assert (row["driver"], row["other"]) == ("tmp_2m", "dswrf")
    assert row["rho"] < -0.999


def test_drivers_with_days_of_their_own_pass():
    random = torch.Generator().manual_seed(0)
    problem = weather(
        lambda air, soil, light: [x.add_(30 * torch.randn(x.shape, generator=random).double()) for x in (air, soil, light)]
    )
    verdict = check_redundancy(problem, None)
    assert verdict.outcome == "pass"
    assert 0 < verdict.value < 0.95
