"""Calibration: tests against scipy's, posteriors that are right and wrong on purpose, and limits on both sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from lit_invert.posterior.bands import simulate_draws
from lit_invert.posterior.calibration import calibrate, inside, mean_fluxes, rank_truth
from lit_invert.posterior.certificate import certify
from lit_invert.posterior.chance import binomial_limits, chi_square_survival, correct_for_many, uniformity
from lit_invert.posterior.sampling import sample_laplace
from lit_invert.posterior.target import find_mode
from lit_invert.posterior.twins import Estimates, Twins, draw_prior, invert_twins, make_twins
from lit_invert.testing import toy_problem


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian_twins(width=1.0, shift=0.0, twins=300, draws=99):
    """Truths with exact posteriors, made wider and shifted on purpose: a unit prior and one observation of unit noise."""
    problem = toy_problem()
    truth = draw_prior(problem, twins, generator(1))
    normal = torch.randn(twins, draws + 1, 3, generator=generator(2), dtype=torch.float64)
    centre = truth + 0.2 * normal[:, 0]
    found = centre[:, None] + shift + 0.2 * width * normal[:, 1:]
    estimates = Estimates(truth, centre, found, torch.full((twins, 3), 0.2, dtype=torch.float64), torch.arange(3))
    simulated = simulate_draws(problem, truth)
    return Twins(problem, simulated, truth, simulated), estimates


def test_p_values_are_those_of_scipy():
    for value, dof in ((0.3, 1), (12.0, 7), (90.0, 19)):
        assert chi_square_survival(value, dof) == pytest.approx(stats.chi2.sf(value, dof), rel=1e-10)
    ranks = torch.from_numpy(np.random.default_rng(0).integers(0, 100, 200))
    statistic, p = uniformity(ranks, 99)
    expected = stats.chisquare(np.bincount(ranks.numpy() // 5, minlength=20))
    assert (statistic, p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-10)


def test_bins_that_hold_unequal_numbers_of_ranks_expect_as_many():
    ranks = torch.arange(7).repeat(10)  # perfectly uniform, in 7 ranks
    statistic, p = uniformity(ranks, 6)
    assert statistic == pytest.approx(0, abs=1e-20)
    assert p == 1
    assert uniformity(torch.zeros(70, dtype=torch.long), 6)[1] < 1e-12


def test_ties_fall_on_either_side():
    ranks = rank_truth(torch.zeros(4000), torch.zeros(4000, 3), generator())
    assert uniformity(ranks, 3)[1] > 0.01
    assert ranks.unique().tolist() == [0, 1, 2, 3]


def test_corrected_p_values_never_fall_below_a_smaller_one():
    assert correct_for_many([0.02, 0.01, 0.021, 0.9]) == pytest.approx([0.06, 0.04, 0.06, 0.9])


@pytest.mark.parametrize("trials", [7, 50, 200])
def test_binomial_limits_leave_out_the_rare_and_no_more(trials):
    low, high = binomial_limits(trials, 0.9)
    lowest, highest = round(low * trials), round(high * trials)
    assert stats.binom.cdf(lowest - 1, trials, 0.9) <= 0.005 < stats.binom.cdf(lowest, trials, 0.9)
    assert stats.binom.sf(highest, trials, 0.9) <= 0.005
    assert highest == trials or stats.binom.sf(highest - 1, trials, 0.9) > 0.005


def test_a_right_posterior_passes():
    twins, found = gaussian_twins()
    result = calibrate(twins, found, generator())
    assert all(result.summary["passed"].values())
    assert list(result.ranks) == ["s1", "s2", "s3", "mean nep", "mean gpp", "mean rh"]
    assert result.summary["verdict"].endswith("No ranks were shown to be uneven.")


@pytest.mark.parametrize(("width", "shift", "coverage"), [(0.5, 0.0, 0.59), (2.0, 0.0, 0.999), (1.0, 0.3, 0.55)])
def test_a_wrong_posterior_fails(width, shift, coverage):
    twins, found = gaussian_twins(width, shift)
    result = calibrate(twins, found, generator())
    assert not any(result.summary["passed"].values())
    pooled = result.coverage.set_index("level").loc[0.9, "determined"]
    assert pooled == pytest.approx(coverage, abs=0.04)
    assert (result.tests.set_index("name").loc[["s1", "s2", "s3"], "p_corrected"] < 1e-6).all()


def test_coverage_counts_the_determined_cases_alone():
    twins, found = gaussian_twins(twins=100)
    wide = found.draws.clone()
    wide[:50] = found.truth[:50, None]  # always inside, but not determined
    ratio = torch.cat([torch.full((50, 3), 0.51), torch.full((50, 3), 0.5)]).double()
    result = calibrate(twins, Estimates(found.truth, found.mode, wide, ratio, found.free), generator())
    expected = inside(found.truth[50:], found.draws[50:], 0.9).double().mean().item()
    assert result.summary["determined"] == 150
    assert result.coverage.set_index("level").loc[0.9, "determined"] == pytest.approx(expected)


def test_nothing_determined_is_said():
    twins, found = gaussian_twins(twins=20)
    result = calibrate(twins, Estimates(found.truth, found.mode, found.draws, found.ratio * 5, found.free), generator())
    assert result.summary["verdict"].startswith("No twin determined a parameter")


def test_mean_fluxes_are_those_of_the_simulations():
    twins, found = gaussian_twins(twins=3, draws=4)
    truth, draws = mean_fluxes(twins.problem, found)["mean gpp"]
    torch.testing.assert_close(truth, simulate_draws(twins.problem, found.truth)[..., 0].mean(1))
    torch.testing.assert_close(draws[2], simulate_draws(twins.problem, found.draws[2])[..., 0].mean(1))


def test_twins_of_a_linear_surrogate_are_calibrated():
    problem = toy_problem()
    mode = find_mode(problem, problem.space.to_theta(problem.space.priors), "nep")
    twins = make_twins(problem, mode, 200, generator(3))
    found = invert_twins(twins, "nep", sample_laplace, 99, generator(4))
    result = calibrate(twins, found, generator(5))
    assert all(result.summary["passed"].values()), result.summary["verdict"]
    certificate = certify(problem, found, "nep")
    assert certificate.sentence.startswith("3 of 3 parameters are recoverable from NEP here: s1, s2, s3.")
    physical = certificate.cases.groupby("name", sort=False)[["truth", "mean"]].apply(lambda c: (c["mean"] - c["truth"]).mean())
    np.testing.assert_allclose(certificate.table["bias_physical"], physical, rtol=1e-12)
    np.testing.assert_allclose(certificate.table["bias_physical"], 0.5 * certificate.table["bias"], rtol=1e-9)  # prior sd is 0.5
