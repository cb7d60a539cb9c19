"""Scores against closed forms, and where they have no meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional import mean_squared_error, pearson_corrcoef, r2_score

from lit_invert.metrics import bias, kge, nse, pearson_r, rmse, scores

OBSERVED = np.array([-2.0, 0.5, 1.0, 4.0, 3.5])


def test_a_perfect_fit_has_no_error_and_full_skill():
    assert scores(OBSERVED, OBSERVED, np.ones(5, dtype=bool)) == {
        "n": 5,
        "rmse": 0.0,
        "bias": 0.0,
        "r": 1.0,
        "nse": 1.0,
        "kge": 1.0,
    }


@pytest.mark.parametrize("shift", [-0.75, 2.0])
def test_a_constant_shift_is_all_bias(shift):
    simulated = OBSERVED + shift
    assert bias(simulated, OBSERVED) == pytest.approx(shift, rel=1e-14)
    assert rmse(simulated, OBSERVED) == pytest.approx(abs(shift), rel=1e-14)
    assert pearson_r(simulated, OBSERVED) == pytest.approx(1.0, rel=1e-14)
    assert nse(simulated, OBSERVED) == pytest.approx(1 - shift**2 / OBSERVED.var(), rel=1e-14)
    assert kge(simulated, OBSERVED) == pytest.approx(1 - abs(shift / OBSERVED.mean()), rel=1e-14)


def test_the_observed_mean_has_no_efficiency():
    assert nse(np.full(5, OBSERVED.mean()), OBSERVED) == pytest.approx(0.0, abs=1e-15)


def test_doubling_costs_the_same_in_spread_and_mean():
    # r = 1, alpha = beta = 2, so KGE = 1 - sqrt(0 + 1 + 1).
    assert kge(2 * OBSERVED, OBSERVED) == pytest.approx(1 - math.sqrt(2), rel=1e-14)


def test_a_mirrored_simulation_is_anticorrelated():
    assert pearson_r(-OBSERVED, OBSERVED) == pytest.approx(-1.0, rel=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_scores_agree_with_torchmetrics(seed):
    """An independent implementation: RMSE, correlation, and NSE, which is R2 of the simulation as it stands."""
    draw = np.random.default_rng(seed)
    observed = draw.normal(1.0, 2.0, 300)
    simulated = 0.7 * observed + draw.normal(0.2, 1.0, 300)
    pair = torch.as_tensor(simulated), torch.as_tensor(observed)
    assert rmse(simulated, observed) == pytest.approx(mean_squared_error(*pair, squared=False).item(), rel=1e-6)
    assert pearson_r(simulated, observed) == pytest.approx(pearson_corrcoef(*pair).item(), rel=1e-6)
    assert nse(simulated, observed) == pytest.approx(r2_score(*pair).item(), rel=1e-6)


def test_correlation_is_numpys():
    rng = np.random.default_rng(0)
    simulated, observed = rng.normal(size=(2, 40))
    assert pearson_r(simulated, observed) == pytest.approx(np.corrcoef(simulated, observed)[0, 1], rel=1e-13)


def test_masked_days_do_not_count():
    observed = np.append(OBSERVED, [np.nan, 1e6])
    simulated = np.append(OBSERVED + 1, [7.0, 7.0])
    mask = np.arange(7) < 5
    assert scores(simulated, observed, mask) == scores(OBSERVED + 1, OBSERVED, np.ones(5, dtype=bool))


def test_without_a_day_nothing_has_meaning():
    found = scores(OBSERVED, OBSERVED, np.zeros(5, dtype=bool))
    assert found.pop("n") == 0
    assert all(math.isnan(value) for value in found.values())


def test_one_day_has_an_error_but_no_spread():
    found = scores([3.0], [1.0], [True])
    assert (found["rmse"], found["bias"]) == (2.0, 2.0)
    assert all(math.isnan(found[name]) for name in ("r", "nse", "kge"))


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_zero_spread_leaves_ratios_undefined(constant):
    # Three times 0.1 has a mean that is not 0.1, so a test of the variance against zero would miss it.
    flat = np.full(3, constant)
    assert math.isnan(nse([1.0, 2.0, 3.0], flat))
    assert math.isnan(pearson_r(flat, [1.0, 2.0, 3.0]))
    assert math.isnan(kge(flat, [1.0, 2.0, 3.0]))


def test_kge_is_undefined_for_a_zero_mean():
    assert math.isnan(kge([1.0, 2.0], [-1.0, 1.0]))


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        rmse([1.0], [1.0, 2.0])
