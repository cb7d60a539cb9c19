"""What the check of ranks makes of a record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from lit_invert_invariance.ranks import check_spearman, simulate_optimum
from scipy import stats

from lit_invert import FrozenSurrogate, Observations, Site
from lit_invert.losses import Misfit
from lit_invert.testing import ToyNetwork, toy_problem

DAYS = 120
DATES = np.datetime64("2015-01-01") + np.arange(DAYS)
NAMES = ("gpp", "npp", "nep", "rh")


def observations(values, mask):
    return Observations(DATES, NAMES, np.where(mask, values, np.nan), mask)


NOTHING = observations(np.zeros((DAYS, 4)), np.zeros((DAYS, 4), dtype=bool))
SITE = Site("toy", 45.0, DATES, ("tmp_2m", "tmp10_soil", "dswrf"), np.zeros((DAYS, 3)), NOTHING, None, np.full(DAYS, "fit"), ())


def nep_mask(days=DAYS):
    mask = torch.zeros(1, DAYS, 4, dtype=torch.bool)
    mask[:, :days, 2] = True
    return mask


def test_a_record_of_the_surrogate_itself_ranks_perfectly():
    verdict = check_spearman(toy_problem(n_days=DAYS, mask=nep_mask()), SITE)
    assert (verdict.outcome, verdict.details["flux"], verdict.details["left_out"]) == ("pass", "nep", 0)
    assert verdict.value == pytest.approx(1.0)
    assert verdict.details["daily_rho"] == pytest.approx(1.0, abs=1e-3)
    assert "at the optimum" in verdict.message


def test_a_record_of_noise_does_not():
    problem = toy_problem(n_days=DAYS, mask=nep_mask())
    noise = torch.randn(1, DAYS, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noisy = problem.variant(observed=noise)
    verdict = check_spearman(noisy, SITE)
    predicted, observed = simulate_optimum(noisy)[0][0, :, 2].numpy(), noise[0, :, 2].numpy()
    means = pd.Series(observed).groupby(pd.qcut(predicted, 10, labels=False)).mean()
    assert verdict.value == pytest.approx(stats.spearmanr(range(10), means).statistic, rel=1e-12)
    assert verdict.outcome == "advice"
    assert "recalibrate" in verdict.message


def test_select_days_count_too():
    problem = toy_problem(n_days=DAYS, mask=nep_mask(60))
    mask = np.zeros((DAYS, 4), dtype=bool)
    mask[60:90, 2] = True
    values = np.full((DAYS, 4), 3.25)
    verdict = check_spearman(problem, replace(SITE, select=observations(values, mask)))
    rows = verdict.details["table"]
    assert sum(row["days"] for row in rows) == 90
    seen = sum(row["days"] * row["observed"] for row in rows)
    assert seen == pytest.approx(problem.observed[0, :60, 2].sum().item() + 30 * 3.25, rel=1e-9)


@pytest.mark.parametrize(("days", "is_measured"), [(19, False), (20, True)])
def test_twenty_days_are_needed(days, is_measured):
    verdict = check_spearman(toy_problem(n_days=DAYS, mask=nep_mask(days)), SITE)
    assert (verdict.value is not None) == is_measured
    assert ("19 days, ranks need 20" in verdict.message) != is_measured


class Loses(ToyNetwork):
    """Has no number on every tenth day."""

    def forward(self, static, forcing):
        fluxes = super().forward(static, forcing)
        return fluxes * torch.where(torch.arange(forcing.shape[1]) % 10 == 0, torch.nan, 1.0)[:, None]


def test_fluxes_without_a_number_are_left_out_and_the_prior_is_looked_at():
    problem = toy_problem(n_days=DAYS, mask=nep_mask())
    surrogate = FrozenSurrogate(Loses(), problem.surrogate.spec).double()
    verdict = check_spearman(problem.variant(surrogate=surrogate), SITE)
    assert verdict.details["left_out"] == DAYS / 10
    assert "at the prior" in verdict.message
    assert verdict.value > 0.9


class Flat(ToyNetwork):
    """The same fluxes every day."""

    def forward(self, static, forcing):
        return super().forward(static, 0 * forcing)


def test_a_prediction_that_does_not_vary_ranks_nothing():
    problem = toy_problem(n_days=DAYS, mask=nep_mask())
    surrogate = FrozenSurrogate(Flat(), problem.surrogate.spec).double()
    verdict = check_spearman(problem.variant(surrogate=surrogate), SITE)
    assert (verdict.outcome, verdict.value) == ("advice", None)
    assert "does not vary" in verdict.message


def test_the_fitted_flux_is_looked_at_and_a_reversed_order_is_named():
    mask = nep_mask(60)
    mask[..., 0] = True  # gpp is observed on more days than nep, which is fitted
    problem = toy_problem(n_days=DAYS, mask=mask, terms=[Misfit()])
    verdict = check_spearman(problem, SITE)
    assert (verdict.details["flux"], sum(row["days"] for row in verdict.details["table"])) == ("nep", 60)
    problem.space.fixed[:] = True
    reversed_verdict = check_spearman(problem.variant(observed=-problem.observed), SITE)
    assert reversed_verdict.value < -0.9
    assert "order is reversed: look at the sign" in reversed_verdict.message
