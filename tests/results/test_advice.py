"""Skill against baselines, the equifinality alarm and surrogate trust, in sentences: one a fault."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.runs import DAYS, make_result, make_site, observed_nep, write_run

TRUSTED = {"outside": [], "percentile": 50.0, "error": {"rmse": 0.2, "source": "re-simulated at the optimum"}}


def test_the_skill_is_one_minus_the_ratio_of_mean_squares(tmp_path):
    folder, metrics = write_run(tmp_path)
    fluxes = pd.read_csv(folder / "fluxes.csv")
    days = fluxes[(fluxes["role"] == "test") & fluxes["nep_mask"]]
    for name in ("season", "regression"):
        error = np.mean((days[f"nep_{name}"] - days["nep_observed"]) ** 2)
        assert metrics["baselines"]["test"][name]["rmse"] == pytest.approx(np.sqrt(error), rel=1e-6)
        assert metrics["baselines"]["test"]["skill"][name] == pytest.approx(1 - 0.5**2 / error, rel=1e-6)
    assert metrics["baselines"]["test"]["skill"]["prior"] == pytest.approx(1 - 0.5**2 / 2.0**2, rel=1e-12)


def test_baselines_learn_from_the_fit_days_alone(tmp_path):
    site, _ = make_site()
    fit = site.fit.mask[:, 2]
    fluxes = pd.read_csv(write_run(tmp_path)[0] / "fluxes.csv")
    assert fluxes["nep_regression"].to_numpy() == pytest.approx(observed_nep()[fit].mean(), rel=1e-8)  # the one driver is flat
    assert fluxes["nep_season"].max() <= observed_nep()[fit].max()
    assert len(fluxes) == DAYS


def test_a_baseline_that_is_better_is_named_with_its_number(tmp_path):
    metrics = write_run(tmp_path, make_result(shift_prior=9.0, shift_optimum=6.0))[1]
    said = [sentence for sentence in metrics["advice"] if "is worse than" in sentence]
    season, regression = (metrics["baselines"]["test"][name]["rmse"] for name in ("season", "regression"))
    assert said == [
        f"On the test days the optimum (RMSE 6.00) is worse than the mean seasonal cycle of the fit days ({season:.2f} gC m-2 d-1) "
        f"and the linear regression on the drivers of the fit days ({regression:.2f} gC m-2 d-1): "
        "the process model adds no skill there."
    ]
    assert max(season, regression) < 6.0


def test_a_flux_that_leaves_its_band_while_nep_improves_is_equifinality(tmp_path):
    result = make_result()
    result.simulated_optimum[:, 1] = 7.0  # NPP, so CUE goes from 1/2 to 7/8
    said = [sentence for sentence in write_run(tmp_path, result)[1]["advice"] if "CUE" in sentence]
    assert len(said) == 1
    assert said[0].startswith("Equifinality: CUE at the optimum is 0.875, outside the plausible 0.3 to 0.7, where the prior's 0.5 ")
    assert "NEP RMSE of the test days fell from 2.00 to 0.50" in said[0]


@pytest.mark.parametrize("change", ["prior was outside, too", "NEP did not improve"])
def test_otherwise_an_implausible_flux_is_only_that(tmp_path, change):
    result = make_result(shift_optimum=3.0) if change == "NEP did not improve" else make_result()
    result.simulated_optimum[:, 1] = 7.0
    if change != "NEP did not improve":
        result.simulated_prior[:, 1] = 7.0
    said = [sentence for sentence in write_run(tmp_path, result)[1]["advice"] if "CUE" in sentence]
    assert len(said) == 1
    assert said[0].startswith("CUE at the optimum is 0.875")


@pytest.mark.parametrize(
    ("support", "shift", "sentence"),
    [
        ({}, 0.1, "below the surrogate's own error (0.20 gC m-2 d-1, re-simulated at the optimum)"),
        ({"outside": ["pmax", "lue"]}, 0.5, "Outside what the surrogate was trained on: pmax, lue."),
        ({"percentile": 99.5}, 0.5, "than 99.5 % of points of the training box"),
    ],
)
def test_what_the_surrogate_does_not_support_is_said(tmp_path, support, shift, sentence):
    metrics = write_run(tmp_path, make_result(shift_optimum=shift), support={**TRUSTED, **support})[1]
    assert sum(sentence in said for said in metrics["advice"]) == 1
    trusted = write_run(tmp_path, make_result(), support=TRUSTED)[1]
    assert not any("surrogate" in said for said in trusted["advice"])
