"""Numbers that figures and tables show beside what the files hold."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from lit_invert.metrics import amplitude_ratio, bias, chi_squared, mae, rmse, slope, unbiased_rmse
from lit_invert.report.draw.distribution import autocorrelation, standardise
from lit_invert.report.draw.identifiability import LEVELS, chain
from lit_invert.report.draw.residuals import bin_means
from lit_invert.report.ranges import Ranges, share_agreeing
from lit_invert.report.sections.scores import scores_table
from lit_invert.report.sections.uncertainty import find_pairs
from lit_invert.results import read_run
from tests.report.files import add_uncertainty
from tests.runs import write_run


def test_the_correlation_of_residuals_with_gaps_is_that_of_the_pairs_that_are_known():
    rng = np.random.default_rng(0)
    z = np.zeros(40_000)
    for t in range(1, len(z)):
        z[t] = 0.7 * z[t - 1] + rng.normal()
    z[rng.random(len(z)) < 0.4] = np.nan
    found, pairs = autocorrelation(z, 3)
    np.testing.assert_allclose(found, [0.7, 0.49, 0.343], atol=0.02)
    known = np.isfinite(z)
    assert pairs[1] == np.sum(known[:-2] & known[2:])


def test_a_lag_of_too_few_pairs_has_no_correlation():
    z = np.full(100, np.nan)
    z[:10] = np.arange(10.0)
    found, pairs = autocorrelation(z, 2)
    assert np.isnan(found).all()
    assert list(pairs) == [9, 8]


def test_residuals_are_standardised_by_the_noise_where_it_is_known(tmp_path):
    run = read_run(write_run(tmp_path)[0])
    z = standardise(run.fluxes, "nep", "fit", np.full(len(run.fluxes), 0.25))
    assert np.isfinite(z).sum() == 100
    np.testing.assert_allclose(z[np.isfinite(z)], 2.0, rtol=1e-7)  # 0.5 too high, of 0.25
    own = standardise(run.fluxes, "nep", "fit")
    np.testing.assert_allclose(own[np.isfinite(own)], 1.0, rtol=1e-7)


def test_bins_hold_as_many_days_each_and_keep_equal_weather_together():
    values = np.arange(100.0)
    center, mean, error = bin_means(values, np.where(values < 50, 1.0, -1.0) + np.tile([0.5, -0.5], 50))
    np.testing.assert_allclose(center[0], 4.5)
    np.testing.assert_allclose(mean, [1] * 5 + [-1] * 5)
    np.testing.assert_allclose(error, 0.5 / 3)
    dry = np.r_[np.zeros(90), np.arange(1.0, 11.0)]
    center, *_ = bin_means(dry, dry)
    assert center[0] == pytest.approx(0.0, abs=0.2)


def test_levels_are_quantiles_of_chi_squared():
    scipy = pytest.importorskip("scipy.stats")
    for percent, level in LEVELS.items():
        assert level == pytest.approx(scipy.chi2.ppf(percent / 100, 1), rel=1e-6)


def test_a_chain_puts_blocks_together():
    blocks = np.array([0, 1, 0, 1, 0])
    strength = np.where(blocks[:, None] == blocks, 0.8, 0.1)
    assert [blocks[i] for i in chain(strength)] == [0, 0, 0, 1, 1]


def test_pairs_come_strongest_first():
    table = pd.DataFrame([[1, 0.2, -0.9], [0.2, 1, np.nan], [-0.9, np.nan, 1]], index=list("abc"), columns=list("abc"))
    assert find_pairs(table, 2) == [("a", "c", -0.9), ("a", "b", 0.2)]


def test_starts_agree_where_they_ended_within_a_quarter_of_a_prior_sd(tmp_path):
    folder, _ = write_run(tmp_path)
    add_uncertainty(folder)
    run = read_run(folder)
    near = run.starts.copy()
    near.loc[2, "pmax"] = 14.0 + 0.24 * 2.0
    np.testing.assert_allclose(share_agreeing(near, run.parameters)[0], 1.0)
    near.loc[2, "pmax"] = 14.0 + 0.26 * 2.0
    np.testing.assert_allclose(share_agreeing(near, run.parameters)[0], 2 / 3)


def test_a_prior_sd_is_one_of_the_logarithm_where_the_scale_is(tmp_path):
    ranges = Ranges(read_run(write_run(tmp_path)[0]).parameters)
    # 2 of 25; 0.2 of log 100; 0.1 of 0.4.
    np.testing.assert_allclose(ranges.prior_sd[:3], [0.08, 0.2 / np.log(100), 0.25], rtol=1e-6)


def test_scores_beyond_the_first_have_their_closed_forms():
    rng = np.random.default_rng(1)
    observed = rng.normal(size=200)
    simulated = 0.5 * observed + 0.3
    assert unbiased_rmse(simulated, observed) ** 2 == pytest.approx(rmse(simulated, observed) ** 2 - bias(simulated, observed) ** 2)
    assert slope(simulated, observed) == pytest.approx(0.5)
    assert mae(observed + 2, observed) == pytest.approx(2.0)
    months = np.repeat(np.arange(1, 11), 20)
    assert amplitude_ratio(simulated, observed, months) == pytest.approx(0.5)


def test_a_season_needs_six_months():
    values = np.arange(6.0)
    assert amplitude_ratio(values, values, np.arange(6)) == 1.0
    assert np.isnan(amplitude_ratio(values, values, [0, 1, 2, 3, 4, 4]))


def test_chi_squared_counts_what_the_fit_has_used_up_and_leaves_days_without_an_error_out():
    observed, sigma = np.zeros(5), np.array([1.0, 2.0, 1.0, np.nan, 0.0])
    simulated = np.array([1.0, 2.0, 3.0, 9.0, 9.0])
    assert chi_squared(simulated, observed, sigma) == pytest.approx(11 / 3)
    assert chi_squared(simulated, observed, sigma, 2) == pytest.approx(11.0)
    assert np.isnan(chi_squared(simulated, observed, sigma, 3))


def test_chi_squared_is_of_noise_and_surrogate_together_and_of_what_the_fit_has_spent(tmp_path):
    """Without errors of the data: half a gC too high on every day, over a deviation of sqrt(0.3^2 + 0.4^2) = 0.5."""
    folder, _ = write_run(tmp_path)
    fluxes = pd.read_csv(folder / "fluxes.csv").drop(columns="nep_sigma", errors="ignore")
    fluxes.to_csv(folder / "fluxes.csv", index=False)
    fluxes[["date"]].assign(nep_noise_sd=0.3, nep_surrogate_sd=0.4).to_csv(folder / "bands.csv", index=False)
    days = int((fluxes["nep_mask"] & (fluxes["role"] == "fit")).sum())
    for known, used in (({"spent": {"nep": 7.5}, "rank": 3}, 7.5), ({"rank": 3}, 3.0)):
        (folder / "uncertainty.json").write_text(json.dumps(known))
        start = rf"<td[^>]*>fit</td><td[^>]*>NEP</td><td>{days}</td><td[^>]*>optimum</td>"
        row = re.search(f"{start}.*?</tr>", scores_table(read_run(folder)))
        assert re.findall(r"<td>(.*?)</td>", row[0])[-1] == f"{days / (days - used):.2f}"
