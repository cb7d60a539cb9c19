"""Data worth against posteriors that really have the other data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_invert.posterior.target import find_mode
from lit_invert.posterior.worth import SEASONS, data_worth
from tests.posterior.posteriors import NEP, known_mode, known_noise, noisy_problem

DATES = np.datetime64("2015-12-15") + 6 * np.arange(60)  # sixty days over a year


def rows_of(found, kind):
    return {(row["what"], row["parameter"]): row for row in found if row["kind"] == kind}


def spread_of(mode):
    return torch.linalg.inv(mode.precision[0]).diagonal().sqrt()


def test_losing_a_season_does_to_each_parameter_what_a_fit_without_it_shows():
    problem = noisy_problem()
    mode = known_mode(problem)
    rows = rows_of(data_worth(mode, "nep", DATES), "season to lose")
    summer = torch.from_numpy(np.isin(DATES.astype("datetime64[M]").astype(int) % 12 + 1, SEASONS["June to August"]))
    mask = problem.mask.clone()
    mask[:, summer] = False
    without = find_mode(problem.variant(mask=mask), mode.theta, "nep", {"nep": known_noise(problem)})
    change = 100 * (1 - spread_of(without) / spread_of(mode))
    assert (change < 0).all()
    for i, name in enumerate(("s1", "s2", "s3")):
        assert rows["no NEP from June to August", name]["sd_reduction_percent"] == pytest.approx(change[i].item(), rel=1e-6)


def test_filling_a_season_does_what_a_fit_with_every_day_of_it_shows():
    problem = noisy_problem()
    mode = known_mode(problem)
    rows = rows_of(data_worth(mode, "nep", DATES), "season to observe")
    spring = torch.from_numpy(np.isin(DATES.astype("datetime64[M]").astype(int) % 12 + 1, SEASONS["March to May"]))
    mask = problem.mask.clone()
    assert not mask[0, spring, NEP].all()
    mask[:, spring, NEP] = True
    full = find_mode(problem.variant(observed=problem.observed, mask=mask), mode.theta, "nep", {"nep": known_noise(problem)})
    change = 100 * (1 - spread_of(full) / spread_of(mode))
    for i, name in enumerate(("s1", "s2", "s3")):
        assert rows["NEP on every day from March to May", name]["sd_reduction_percent"] == pytest.approx(change[i].item(), rel=1e-6)


def test_as_many_days_again_double_the_information():
    mode = known_mode(noisy_problem())
    rows = rows_of(data_worth(mode, "nep", DATES), "days again")
    doubled = torch.linalg.inv(2 * mode.information[0] + torch.eye(3, dtype=torch.float64)).diagonal().sqrt()
    change = 100 * (1 - doubled / spread_of(mode))
    for i, name in enumerate(("s1", "s2", "s3")):
        assert rows["as many days of NEP again", name]["sd_reduction_percent"] == pytest.approx(change[i].item(), rel=1e-9)


def test_what_other_terms_know_is_known_already():
    known = torch.diag(torch.tensor([4.0, 0.0, 0.0], dtype=torch.float64))[None]
    mode = replace(known_mode(noisy_problem()), others=known)
    rows = rows_of(data_worth(mode, "nep", DATES), "days again")
    doubled = torch.linalg.inv(mode.precision[0] + mode.information[0]).diagonal().sqrt()
    change = 100 * (1 - doubled / spread_of(mode))
    for i, name in enumerate(("s1", "s2", "s3")):
        assert rows["as many days of NEP again", name]["sd_reduction_percent"] == pytest.approx(change[i].item(), rel=1e-9)


def test_a_flux_that_is_half_of_another_is_worth_the_same_and_rows_are_in_order():
    mode = known_mode(noisy_problem())
    found = data_worth(mode, "nep", DATES)
    rows = rows_of(found, "flux to observe")
    for name in ("s1", "s2", "s3"):  # NPP is half of GPP, and its noise too
        gpp, npp = (rows[f"{flux} on the same days", name] for flux in ("GPP", "NPP"))
        assert gpp["sd_reduction_percent"] == pytest.approx(npp["sd_reduction_percent"], rel=1e-9)
        assert gpp["sd_reduction_percent"] > 0
        assert gpp["rank_gain"] >= 0
    sizes = [abs(row["sd_reduction_percent"]) for row in found]
    assert sizes == sorted(sizes, reverse=True)


def test_a_season_without_observations_cannot_be_lost_and_a_full_one_not_be_filled():
    found = data_worth(known_mode(noisy_problem()), "nep", np.datetime64("2016-06-01") + np.arange(60))
    assert {row["what"] for row in found if row["kind"] == "season to lose"} == {"no NEP from June to August"}
    assert {row["what"] for row in found if row["kind"] == "season to observe"} == {"NEP on every day from June to August"}
