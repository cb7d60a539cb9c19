"""A fit with an uncertainty analysis: what its folder holds, and that a failure of the analysis does not lose the fit."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lit_invert.config import parse_fit
from lit_invert.errors import ConfigError, ResultsError
from lit_invert.fit import fit
from lit_invert.plugins import build_registry
from lit_invert.posterior import quantify as module
from lit_invert.posterior.quantify import quantify
from lit_invert.posterior.summary import advise_on_coverage
from lit_invert.results import Run
from lit_invert.settings import UncertaintySettings
from tests.many.cases import run_sites, site_truth, write_toy_sites
from tests.posterior.posteriors import noisy_problem
from tests.toy_fit import write_toy_fit

#: Names of the files that the analysis adds.
FILES = {"posterior.csv", "posterior_samples.csv", "posterior_correlation.csv", "bands.csv", "uncertainty.json"}


def run_fit(folder, *arguments):
    registry = build_registry()
    config = write_toy_fit(folder)
    return fit(parse_fit(["--config", str(config), *arguments], registry), registry)


@pytest.fixture(scope="module")
def quantified(tmp_path_factory):
    arguments = ("--uncertainty.method", "laplace", "--uncertainty.draws", "200", "--uncertainty.profiles", "[s1]")
    return run_fit(tmp_path_factory.mktemp("quantified"), *arguments)


def test_the_folder_holds_every_table_and_reads_it_back(quantified):
    run = Run(quantified.folder)
    assert {path.name for path in quantified.folder.iterdir()} >= FILES | {"profiles.csv"}
    assert list(run.posterior["name"]) == ["s1", "s2", "s3"]
    assert run.posterior_samples.shape == (200, 3)
    np.testing.assert_allclose(run.posterior_samples.mean(), run.posterior["mean"], rtol=1e-6)
    np.testing.assert_allclose(run.posterior_samples.quantile(0.05), run.posterior["p05"], rtol=1e-6)
    np.testing.assert_allclose(np.diag(run.posterior_correlation), 1.0)
    assert list(run.posterior_correlation.columns) == list(run.posterior_correlation.index) == ["s1", "s2", "s3"]
    assert (run.bands["date"] == run.fluxes["date"]).all()
    assert set(run.profiles["parameter"]) == {"s1"}
    assert list(run.uncertainty["profiles"]) == ["s1"]
    assert json.loads((quantified.folder / "status.json").read_text())["status"] != "failed"


def test_the_truth_lies_in_the_intervals_and_the_prior_is_wider(quantified):
    table = Run(quantified.folder).posterior.set_index("name")
    truth = {f"s{i}": 2 + 0.7 * np.cos(i) for i in (1, 2, 3)}
    for name, value in truth.items():
        row = table.loc[name]
        assert row["p05"] - 0.02 < value < row["p95"] + 0.02
        assert row["class"] == "determined"
        assert row["p05"] < row["p25"] < row["p50"] < row["p75"] < row["p95"]
        assert row["p95"] - row["p05"] < 0.5 * (row["prior_p95"] - row["prior_p05"])
        assert row["prior_sd"] == pytest.approx(0.5, rel=0.02)
        assert row["sd_reduction_percent"] == pytest.approx(100 * (1 - row["variance_ratio"] ** 0.5))
        assert row["sd"] == pytest.approx(row["prior_sd"] * row["variance_ratio"] ** 0.5, rel=0.02)


def test_bands_hold_their_observations_and_only_the_observed_flux_is_constrained(quantified):
    run = Run(quantified.folder)
    days = run.fluxes["nep_mask"]
    inside = run.fluxes["nep_observed"].between(run.bands["nep_low"], run.bands["nep_high"])
    assert inside[days].all()  # observations have no noise, and the noise has a floor
    assert (run.bands["nep_p05"] <= run.bands["nep_p50"]).all()
    assert (run.bands["nep_low"] < run.bands["nep_p05"]).all()
    assert run.uncertainty["constrained"] == {"gpp": False, "npp": False, "nep": True, "rh": False}
    assert "gpp_low" not in run.bands


def test_the_metrics_have_a_summary(quantified):
    summary = quantified.metrics["uncertainty"]
    assert summary["method"] == "laplace"
    assert summary["rank"] == summary["free"] == 3
    assert summary["determined"] == ["s1", "s2", "s3"]
    assert summary["coverage"]["test"] == {"n": 20, "share": 1.0}
    assert summary["lambda_prior"]["used"] == 1.0
    assert [summary["lambda_prior"][f"{key}_unit"] for key in ("used", "derived")] == ["scaled space", "prior sd"]
    known = Run(quantified.folder).uncertainty
    assert known["noise"]["nep"]["n_eff"] <= known["noise"]["nep"]["n"]
    assert known["spent"]["nep"] == pytest.approx(sum(value / (1 + value) for value in known["eigenvalues"]), rel=1e-6)
    assert known["conflict_expected"]["days"] == sum(spell["days"] for spell in known["conflict"])
    described = [direction["eigenvalue"] for direction in known["directions"]]
    assert known["eigenvalues"] == pytest.approx(described, rel=1e-9)  # all three are held by the data


def test_a_derived_weight_is_told_as_the_number_that_it_was(tmp_path):
    arguments = (
        "--inversion.lambda_prior",
        "derived",
        "--inversion.solver",
        "levenberg_marquardt",
        "--uncertainty.method",
        "laplace",
    )
    outcome = run_fit(tmp_path, *arguments)
    used = Run(outcome.folder).uncertainty["lambda_prior"]["used"]
    assert used == pytest.approx(outcome.result.lambda_prior, rel=1e-9)
    assert Run(outcome.folder).uncertainty["lambda_prior"]["used_unit"] == "prior sd"
    assert f"lambda_prior {used:.2g} derived" in outcome.result.message


def test_the_same_seed_gives_the_same_draws_and_another_gives_others():
    problem = noisy_problem()
    theta, dates = problem.space.to_theta(problem.space.priors), np.datetime64("2016-01-01") + np.arange(60)
    one, again, other = (quantify(problem, theta, "nep", dates, UncertaintySettings("laplace", 30), seed) for seed in (3, 3, 4))
    assert one.samples.equals(again.samples)
    assert not one.samples.equals(other.samples)
    assert "profiles.csv" not in one.files


def test_an_analysis_that_fails_leaves_the_fit_and_says_why(tmp_path, monkeypatch):
    def fails(*_):
        raise ResultsError("too few members converged.")

    monkeypatch.setattr(module, "draw", fails)
    outcome = run_fit(tmp_path, "--uncertainty.method", "rml")
    assert outcome.metrics["advice"][-1] == "The uncertainty was not quantified: too few members converged."
    assert (outcome.folder / "parameters.csv").is_file()
    assert not {path.name for path in outcome.folder.iterdir()} & FILES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--uncertainty.method", "laplace", "--uncertainty.profiles", "[s9]"),
            r"`uncertainty.profiles`: 's9' is not a free static",
        ),
        (("--uncertainty.profiles", "[s1]"), r"`uncertainty.method` is none"),
        (("--uncertainty.draws", "19"), r"`uncertainty.draws` is 19, expected 20 or more"),
        (
            ("--uncertainty.method", "laplas"),
            r"`uncertainty.method`: expected one of 'none', 'laplace', 'population', 'rml', 'nuts'",
        ),
    ],
)
def test_a_wrong_block_is_one_clear_line_and_leaves_no_trace(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        run_fit(tmp_path, *arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("share", "word"), [(0.76, "understated"), (0.78, ""), (1.0, "")])
def test_coverage_is_judged_by_the_independent_test_days(share, word):
    # 20 independent days: 0.9 -+ 2 * 0.067
    summary = {"n_eff": 20.0, "coverage": {"fit": {"n": 100, "share": 0.9}, "test": {"n": 100, "share": share}}}
    found = advise_on_coverage(summary)
    assert len(found) == bool(word)
    assert all(word in sentence for sentence in found)
    many = {"n_eff": 80.0, "coverage": {"fit": {"n": 100, "share": 0.9}, "test": {"n": 100, "share": 1.0}}}
    assert "overstated" in advise_on_coverage(many)[0]


def test_many_sites_have_intervals_of_their_own(tmp_path):
    config = write_toy_sites(tmp_path, [120, 150])
    rows = pd.read_csv(run_sites(config, "--uncertainty.method", "laplace", "--uncertainty.draws", "50").folder / "parameters.csv")
    assert len(rows) == 6
    for number in range(2):
        own = rows[rows["site"] == f"s{number:03d}"]
        assert (own["p05"] < site_truth(number).numpy() + 0.02).all()
        assert (own["p95"] > site_truth(number).numpy() - 0.02).all()
        assert own["class"].isin(["determined", "traded off"]).all()


def test_sites_that_share_parameters_are_refused(tmp_path):
    config = write_toy_sites(tmp_path, [120, 150])
    with pytest.raises(ConfigError, match=r"`uncertainty.method`: sites that share parameters have one posterior together"):
        run_sites(config, "--uncertainty.method", "laplace", "--sharing.default", "global")
