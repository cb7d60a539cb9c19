"""Bands of fluxes: quantiles, what adds up and what does not, years, and coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lit_invert.posterior import laplace
from lit_invert.posterior.bands import annual_intervals, coverage, linear_draws, noisy_quantile, simulate_draws, tabulate_bands
from lit_invert.posterior.noise import Noise
from tests.posterior.posteriors import known_mode, noisy_problem

OUTPUTS = ("gpp", "npp", "nep", "rh")
DATES = np.datetime64("2015-12-20") + np.arange(60)


def constant_noise(deviation: float, days: int = 60) -> Noise:
    one = torch.ones(1, dtype=torch.float64)
    return Noise(one, one, one, torch.full((1, days), deviation, dtype=torch.float64), torch.ones(1, days, dtype=torch.bool))


def spec_with(accuracy):
    return replace(noisy_problem().surrogate.spec, accuracy=accuracy)


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.95])
def test_a_gaussian_flux_with_gaussian_noise_has_the_quantile_of_their_sum(probability):
    normal = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    flux = 3 + 0.8 * normal[:, None]
    found = noisy_quantile(flux, torch.tensor([0.6], dtype=torch.float64), probability)
    assert found.item() == pytest.approx(3 + torch.special.ndtri(torch.tensor(probability)).item(), abs=1e-3)


def test_a_quantile_of_two_far_flux_values_lies_where_their_mixture_says():
    found = noisy_quantile(torch.tensor([[0.0], [100.0]], dtype=torch.float64), torch.ones(1, dtype=torch.float64), 0.25)
    assert found.item() == pytest.approx(0.0, abs=1e-4)  # the median of the lower half


def test_the_surrogates_error_is_part_of_the_noise_and_not_added_again():
    flux = torch.randn(2000, 60, 4, dtype=torch.float64)
    bands = tabulate_bands(flux, spec_with({"nep": 0.3, "gpp": 0.4}), DATES, {"nep": constant_noise(0.5)})
    assert bands["nep_noise_sd"].to_numpy() == pytest.approx(0.4)
    assert (bands["nep_surrogate_sd"] == 0.3).all()
    plain = tabulate_bands(flux, spec_with({}), DATES, {"nep": constant_noise(0.5)})
    assert (plain["nep_noise_sd"] == 0.5).all()
    pd.testing.assert_series_equal(plain["nep_high"], bands["nep_high"])
    assert (bands["gpp_surrogate_sd"] == 0.4).all()
    assert bands["gpp_noise_sd"].isna().all()
    assert "gpp_low" not in bands


def test_a_surrogate_worse_than_the_noise_leaves_no_noise():
    flux = torch.zeros(20, 60, 4, dtype=torch.float64)
    bands = tabulate_bands(flux, spec_with({"nep": 0.9}), DATES, {"nep": constant_noise(0.5)})
    assert (bands["nep_noise_sd"] == 0).all()


def test_a_linear_surrogate_is_followed_by_its_linearisation():
    mode = known_mode(noisy_problem())
    draws = laplace.sample(mode, 50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(linear_draws(mode, draws), simulate_draws(mode.problem, draws), rtol=1e-9, atol=1e-9)


def test_chunks_of_draws_are_simulated_as_all_at_once(monkeypatch):
    mode = known_mode(noisy_problem())
    draws = laplace.sample(mode, 23, torch.Generator().manual_seed(0))
    whole = simulate_draws(mode.problem, draws)
    monkeypatch.setattr("lit_invert.posterior.bands.DAYS_AT_ONCE", 300)
    torch.testing.assert_close(simulate_draws(mode.problem, draws), whole, rtol=1e-12, atol=0)


def test_only_whole_years_have_a_sum_and_the_mean_is_of_all_days():
    dates = np.arange("2015-06-01", "2017-11-27", dtype="datetime64[D]")  # 330 days of 2017, 214 of 2015
    flux = torch.tensor([8.0, 4.0, 1.0, 3.0], dtype=torch.float64).expand(30, len(dates), 4)
    found = annual_intervals(flux, OUTPUTS, dates)
    assert list(found) == ["2016", "2017", "mean"]
    assert found["2016"]["gpp"]["p50"] == pytest.approx(8 * 366)
    assert found["2017"]["rh"]["p95"] == pytest.approx(3 * 330)
    assert found["mean"]["nep"]["p05"] == pytest.approx(365.25)
    assert found["mean"]["reco"]["p50"] == pytest.approx(7 * 365.25)
    assert found["mean"]["cue"]["p50"] == pytest.approx(0.5)
    assert list(annual_intervals(flux[:, :329], OUTPUTS, dates[:329])) == []


def test_coverage_counts_the_observed_days_of_a_role():
    bands = pd.DataFrame({"nep_low": [0.0] * 6, "nep_high": [1.0] * 6})
    fluxes = pd.DataFrame(
        {
            "role": ["test"] * 5 + ["fit"],
            "nep_mask": [True, True, True, True, False, True],
            "nep_observed": [0.5, 0.0, 1.1, 1.0, 9.0, 9.0],
        }
    )
    assert coverage(bands, fluxes, "nep", "test") == {"n": 4, "share": 0.75}
    assert coverage(bands, fluxes, "nep", "fit") == {"n": 1, "share": 0.0}
    assert np.isnan(coverage(bands, fluxes, "nep", "select")["share"])
