"""The numbers of a run against closed forms, and the sentences that go with them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lit_invert.results.summary import PLAUSIBLE
from tests.runs import SPEC, make_result, write_run


def test_scores_by_role_have_their_closed_form(tmp_path):
    roles = write_run(tmp_path)[1]["roles"]
    assert {role: list(fluxes) for role, fluxes in roles.items()} == {role: ["nep"] for role in ("fit", "select", "test")}
    assert [roles[role]["nep"]["n"] for role in roles] == [100, 27, 67]
    for role in roles:
        score = roles[role]["nep"]
        assert score["prior"]["rmse"] == pytest.approx(2.0, rel=1e-12)
        assert score["optimum"]["rmse"] == pytest.approx(0.5, rel=1e-12)
        assert score["optimum"]["bias"] == pytest.approx(0.5, rel=1e-12)
        assert score["optimum"]["r"] == pytest.approx(1.0, rel=1e-12)
        assert score["rmse_change_percent"] == pytest.approx(-75.0, rel=1e-12)


def test_annual_sums_count_the_days_of_each_year(tmp_path):
    sums = write_run(tmp_path)[1]["annual_sums"]
    assert {year: values["days"] for year, values in sums.items()} == {"2001": 365, "2002": 35}
    assert sums["2001"]["gpp"] == {"prior": 8 * 365.0, "optimum": 8 * 365.0}
    difference = sums["2002"]["nep"]["prior"] - sums["2002"]["nep"]["optimum"]
    assert difference == pytest.approx(1.5 * 35, rel=1e-12)


def test_warm_up_is_in_no_sum(tmp_path):
    metrics = write_run(tmp_path, spec=replace(SPEC, warmup_days=30))[1]
    assert metrics["annual_sums"]["2001"]["days"] == 335


def test_plausibility_holds_the_mean_year_against_its_band(tmp_path):
    judged = {band["quantity"]: band for band in write_run(tmp_path)[1]["plausibility"]}
    assert judged["gpp"]["optimum"] == pytest.approx(8 * 365.25)
    assert judged["cue"]["optimum"] == 0.5
    assert all(band["plausible"] == {"prior": True, "optimum": True} for band in judged.values())


def test_an_implausible_flux_is_said(tmp_path):
    result = make_result()
    result.simulated_optimum[:, 1] = 7.0  # NPP, so CUE is 7/8
    metrics = write_run(tmp_path, result)[1]
    cue = metrics["plausibility"][[band.quantity for band in PLAUSIBLE].index("cue")]
    assert cue["plausible"] == {"prior": True, "optimum": False}
    assert any("CUE at the optimum is 0.875" in sentence for sentence in metrics["advice"])


def test_a_short_record_is_not_judged(tmp_path):
    assert write_run(tmp_path, spec=replace(SPEC, warmup_days=100))[1]["plausibility"] == []


def test_no_gpp_has_no_efficiency(tmp_path):
    result = make_result()
    result.simulated_optimum[:, 0] = 0.0
    cue = write_run(tmp_path, result)[1]["plausibility"][-1]
    assert math.isnan(cue["optimum"])
    assert cue["plausible"]["optimum"] is False


def test_distance_is_euclidean_in_both_spaces(tmp_path):
    distance = write_run(tmp_path)[1]["parameter_distance"]
    assert distance["scaled"] == pytest.approx(math.hypot(2 / 4, 1 / 2, 0.2 / 0.2), rel=1e-12)
    assert distance["prior_sd"] == pytest.approx(math.hypot(1, 5, 2), rel=1e-12)


def test_the_gap_to_the_process_model_is_measured(tmp_path):
    again = make_result().simulated_optimum - np.array([0.0, 0.0, 0.3, 0.0])
    metrics = write_run(tmp_path, resimulated=again)[1]
    assert metrics["resimulation_gap"]["nep"]["rmse"] == pytest.approx(0.3, rel=1e-12)
    assert metrics["resimulation_gap"]["nep"]["bias"] == pytest.approx(0.3, rel=1e-12)
    assert metrics["resimulation_gap"]["gpp"]["rmse"] == 0.0
    assert metrics["roles"]["test"]["nep"]["resimulated"]["rmse"] == pytest.approx(0.2, rel=1e-12)


def test_without_a_process_model_there_is_no_gap(tmp_path):
    assert write_run(tmp_path)[1]["resimulation_gap"] is None


@pytest.mark.parametrize(
    ("result", "options", "sentence"),
    [
        (make_result(shift_optimum=3.0), {}, "On the test days the NEP RMSE rose"),
        (make_result(shift_prior=9.0, shift_optimum=3.0), {}, "no better than the mean of the observations (NSE -"),
        (make_result(shift_optimum=0.1), {}, "is below the surrogate's own error (0.20"),
        (make_result(), {"test": False}, "No test days were held back"),
        (make_result(), {}, "At a bound of its range: share."),
        (make_result(), {"resimulated": make_result(shift_optimum=-2.5).simulated_optimum}, "the surrogate misled the fit"),
    ],
)
def test_what_a_reader_must_know_is_said(tmp_path, result, options, sentence):
    assert any(sentence in said for said in write_run(tmp_path, result, **options)[1]["advice"])


def test_a_clean_run_has_no_advice(tmp_path):
    optimum = make_result().optimum.clone()
    optimum[2] = 0.4
    again = make_result().simulated_optimum
    assert write_run(tmp_path, make_result(optimum=optimum), resimulated=again)[1]["advice"] == []
