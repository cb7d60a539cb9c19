"""A run over many sites: each as if it were alone, whatever becomes of the others."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lit_invert import fit as fit_module
from lit_invert.cli import main
from lit_invert.config import parse_fit
from lit_invert.errors import ConfigError, ObservationError, ResultsError
from lit_invert.fit import fit
from lit_invert.hookspecs import hookimpl
from lit_invert.losses import LossTerm
from lit_invert.many import chunk as chunk_module
from lit_invert.many import run as run_module
from lit_invert.many.run import fit_sites
from lit_invert.plugins import build_registry
from lit_invert.results import read_run, read_sites_run
from tests.many.cases import run_sites, site_truth, write_toy_sites

LENGTHS = [120, 700, 150, 300, 130, 121, 400]


def values(folder, table="parameters"):
    return pd.read_csv(folder / f"{table}.csv")


@pytest.fixture
def config_path(tmp_path):
    return write_toy_sites(tmp_path, LENGTHS)


def test_every_site_finds_its_own_truth(config_path):
    outcome = run_sites(config_path, "--inversion.lambda_prior", "0")
    parameters = values(outcome.folder)
    assert list(outcome.sites["site"]) == [f"s{i:03d}" for i in range(len(LENGTHS))]
    for number in range(len(LENGTHS)):
        optimum = parameters.loc[parameters["site"] == f"s{number:03d}", "optimum"]
        assert optimum.to_numpy() == pytest.approx(site_truth(number).numpy(), abs=0.01)
    assert (outcome.sites["rmse_change_percent"] < -95).all()
    assert (outcome.sites["status"] == "converged").all()
    assert json.loads((outcome.folder / "status.json").read_text()) == {
        "status": "finished",
        "message": "7 of 7 sites have a result; 0 failed.",
    }


def test_a_site_in_a_batch_has_the_result_that_it_has_alone(config_path):
    together = run_sites(config_path)
    registry = build_registry()
    text = config_path.read_text()
    for number in (0, 1, 5):
        alone = config_path.parent / "alone.yaml"
        alone.write_text(text.replace("  sites: sites.csv\n", f"  path: tower_{number:03d}.csv\n  latitude: {40 + number}\n"))
        single = fit(parse_fit(["--config", str(alone)], registry), registry)
        rows = values(together.folder)
        found = rows.loc[rows["site"] == f"s{number:03d}", "optimum"].to_numpy()
        assert found == pytest.approx(single.result.optimum.numpy(), rel=1e-5)
        row = together.sites.iloc[number]
        assert row["rmse_optimum"] == pytest.approx(single.metrics["roles"]["test"]["nep"]["optimum"]["rmse"], rel=1e-3)
        assert row["iterations"] == single.result.iterations


def test_neighbours_do_not_matter(config_path):
    all_sites = values(run_sites(config_path).folder)
    catalogue = pd.read_csv(config_path.parent / "sites.csv")
    catalogue.iloc[[1, 4]].to_csv(config_path.parent / "sites.csv", index=False)
    two = values(run_sites(config_path).folder).set_index(["site", "name"])["optimum"]
    assert len(two) == 6
    expected = all_sites.set_index(["site", "name"])["optimum"].loc[two.index]
    assert two.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)


def test_a_site_that_cannot_be_read_is_a_row_and_the_others_finish(config_path):
    (config_path.parent / "tower_002.csv").write_text("date,nep\n2016-01-01,x\n")
    frame = pd.read_csv(config_path.parent / "tower_003.csv")
    frame.loc[5, "tmp_2m"] = np.nan
    frame.to_csv(config_path.parent / "tower_003.csv", index=False)
    (config_path.parent / "tower_004.csv").unlink()
    outcome = run_sites(config_path)
    failed = outcome.failed.set_index("site")["message"]
    assert set(failed.index) == {"s002", "s003", "s004"}
    assert "driver 'tmp_2m' has no value" in failed["s003"]
    assert "no such file" in failed["s004"]
    fitted = outcome.sites[outcome.sites["status"] != "failed"]
    assert (fitted["rmse_change_percent"] < -90).all()
    assert set(values(outcome.folder)["site"]) == {"s000", "s001", "s005", "s006"}


class ExplodesAtOneSite(LossTerm):
    """Is not a number where the record is long."""

    name = "explodes"

    def forward(self, evaluation):
        length = evaluation.days.sum(-1).expand(len(evaluation.scaled))
        return torch.where(length == 300, torch.nan, 0.0) * evaluation.scaled.sum(-1)


def test_a_site_that_diverges_at_its_start_fails_alone(config_path):
    registry = build_registry()
    config = replace(parse_fit(["--config", str(config_path)], registry), loss_terms=[ExplodesAtOneSite()], checks="skip")
    outcome = fit_sites(config, registry)
    assert list(outcome.failed["site"]) == ["s003"]
    assert "finite" in outcome.failed["message"].iloc[0]
    fitted = outcome.sites[outcome.sites["status"] != "failed"]
    assert (fitted["rmse_change_percent"] < -90).all()


class RaisesAtOneSite(LossTerm):
    """Fails where the record is long."""

    name = "raises"

    def forward(self, evaluation):
        if bool((evaluation.days.sum(-1) == 300).any()):
            raise RuntimeError("no such season")
        return 0.0 * evaluation.scaled.sum(-1)


def test_a_bug_fails_only_the_site_that_shows_it(config_path):
    registry = build_registry()
    config = replace(parse_fit(["--config", str(config_path)], registry), loss_terms=[RaisesAtOneSite()], checks="skip")
    outcome = fit_sites(config, registry)
    assert list(outcome.failed["site"]) == ["s003"]
    assert "no such season" in outcome.failed["message"].iloc[0]
    assert len(values(outcome.folder)) == 3 * (len(LENGTHS) - 1)


def test_a_run_goes_on_without_fitting_finished_sites_again(config_path, monkeypatch):
    outcome_path = config_path.parent / "tower_006.csv"
    whole = outcome_path.read_text()
    outcome_path.write_text("date\n")
    first = run_sites(config_path, "--scale.batch_sites", "2")
    assert list(first.failed["site"]) == ["s006"]
    for path in (first.folder / "parts").glob("000002-*"):  # as if it had been killed before these were written
        path.unlink()
    outcome_path.write_text(whole)
    read = []
    original = chunk_module.read_site_inputs

    def remember(config, *arguments):
        read.append(config.data.site)
        return original(config, *arguments)

    monkeypatch.setattr(chunk_module, "read_site_inputs", remember)
    again = run_sites(config_path, "--scale.batch_sites", "2", "--ckpt_path", "last")
    assert again.folder == first.folder
    assert read == ["s002", "s003", "s006"]
    assert len(again.failed) == 0
    rows = values(again.folder)
    assert len(rows) == 3 * len(LENGTHS)
    assert not rows.duplicated(["site", "name"]).any()
    assert sorted(again.sites["site"]) == [f"s{i:03d}" for i in range(len(LENGTHS))]


def test_a_run_does_not_go_on_with_another_config(config_path):
    run_sites(config_path)
    with pytest.raises(ResultsError, match="was made with another `inversion`"):
        run_sites(config_path, "--ckpt_path", "last", "--inversion.lambda_prior", "5")
    table = config_path.parent / "table.csv"
    table.write_text(table.read_text().replace("0.5,3.5", "0.4,3.5"))
    with pytest.raises(ResultsError, match="was made with another parameters"):
        run_sites(config_path, "--ckpt_path", "last")


def test_a_run_goes_on_that_began_before_a_key_existed(config_path):
    path = run_sites(config_path).folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    del settings["uncertainty"], settings["inversion"]["halving"]
    path.write_text(yaml.safe_dump(settings))
    assert run_sites(config_path, "--ckpt_path", "last").folder == path.parent
    with pytest.raises(ResultsError, match="was made with another `uncertainty`"):
        run_sites(config_path, "--ckpt_path", "last", "--uncertainty.method", "laplace")
    path.unlink()
    with pytest.raises(ResultsError, match="is no run over many sites"):
        run_sites(config_path, "--ckpt_path", "last")


def test_a_site_whose_report_cannot_be_drawn_keeps_its_result(config_path, monkeypatch):
    def fails(folder, *_):
        if folder.name == "s001":
            raise OSError("no space left")

    monkeypatch.setattr(fit_module, "write_report", fails)
    outcome = run_sites(config_path, "--scale.site_folders", "true")
    sites = outcome.sites.set_index("site")
    folder = outcome.folder / "sites" / "s001"
    assert (sites["status"] == "converged").all()
    mend = f"Once that is mended, run `lit-invert report {folder}`."
    assert sites.loc["s001", "advice"] == f"The report could not be drawn (OSError: no space left). {mend}"
    assert sites["advice"].fillna("").astype(bool).sum() == 1
    assert len(read_run(folder).parameters) == 3


def test_a_stopped_run_says_how_to_go_on(config_path, monkeypatch):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(chunk_module, "invert_sites", stop)
    with pytest.raises(KeyboardInterrupt):
        run_sites(config_path)
    folder = config_path.parent / "logs" / "toy" / "version_0"
    assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
    monkeypatch.undo()
    assert len(run_sites(config_path, "--ckpt_path", "last").failed) == 0


def test_nothing_is_written_before_the_catalogue_is_read(config_path):
    (config_path.parent / "sites.csv").write_text("site,path,prior\nA,a.csv,grass\n")
    with pytest.raises(ObservationError, match="prior 'grass' is no row"):
        run_sites(config_path)
    with pytest.raises(ConfigError, match=r"scale\.batch_sites"):
        run_sites(config_path, "--scale.batch_sites", "0")
    assert not (config_path.parent / "logs").exists()


def test_sites_have_priors_of_their_own(config_path):
    (config_path.parent / "priors.csv").write_text("prior,s1,s2\nforest,2.5,\ngrass,,1.5\n")
    outcome = run_sites(config_path, "--data.priors", str(config_path.parent / "priors.csv"), "--inversion.lambda_prior", "1e6")
    optimum = values(outcome.folder).pivot_table(index="site", columns="name", values="optimum")
    for number in range(len(LENGTHS)):
        expected = [2.5, 2.0, 2.0] if number % 2 else [2.0, 1.5, 2.0]
        assert optimum.loc[f"s{number:03d}"].to_numpy() == pytest.approx(expected, abs=1e-4)


def test_a_fixed_parameter_stays_at_the_sites_own_prior(config_path):
    table = config_path.parent / "table.csv"
    table.write_text(table.read_text().replace("s1,-,first,2.0,0.5,0.5,3.5,lin,false", "s1,-,first,2.0,0.5,0.5,3.5,lin,true"))
    (config_path.parent / "priors.csv").write_text("prior,s1\nforest,2.5\n")
    outcome = run_sites(config_path, "--data.priors", str(config_path.parent / "priors.csv"))
    rows = values(outcome.folder).set_index(["site", "name"])["optimum"]
    assert [rows[f"s{i:03d}", "s1"] for i in range(4)] == [2.0, 2.5, 2.0, 2.5]


def test_a_sites_folder_is_that_of_a_fit_and_can_be_run_again(config_path):
    (config_path.parent / "priors.csv").write_text("prior,s1\nforest,2.5\n")
    outcome = run_sites(config_path, "--data.priors", str(config_path.parent / "priors.csv"), "--scale.site_folders", "true")
    run = read_run(outcome.folder / "sites" / "s001")
    rows = values(outcome.folder)
    assert run.parameters["optimum"].to_numpy() == pytest.approx(rows.loc[rows["site"] == "s001", "optimum"].to_numpy())
    assert len(run.fluxes) == 700
    assert (run.folder / "report.html").is_file()
    assert run.metrics["support"]["outside"] == []
    registry = build_registry()
    again = fit(parse_fit(["--config", str(run.folder / "config.yaml")], registry), registry)
    assert again.result.optimum.numpy() == pytest.approx(run.parameters["optimum"].to_numpy(), rel=1e-5)
    assert again.result.table.prior.tolist() == [2.5, 2.0, 2.0]


def test_what_the_posterior_says_stands_in_the_tables(config_path, monkeypatch):
    """One site's posterior cannot be had; it keeps its result, and the tables of all parts have the same columns."""
    original = fit_module.quantify

    def fails_at_one(problem, *arguments):
        if int(problem.days.sum()) == LENGTHS[1]:
            raise ResultsError("too few members converged.")
        return original(problem, *arguments)

    monkeypatch.setattr(fit_module, "quantify", fails_at_one)
    arguments = ["--uncertainty.method", "laplace", "--uncertainty.draws", "40", "--scale.batch_sites", "1"]
    catalogue = pd.read_csv(config_path.parent / "sites.csv")
    catalogue.iloc[[1, 0, 2]].to_csv(config_path.parent / "sites.csv", index=False)
    run = read_sites_run(run_sites(config_path, *arguments, "--scale.parquet", "true").folder)
    sites, parameters = run.sites.set_index("site"), run.parameters.set_index(["site", "name"])
    assert sites.loc["s001", "advice"] == "The uncertainty was not quantified: too few members converged."
    assert sites["rank"].fillna(-1).tolist() == [-1, 3, 3]
    assert (sites["rmse_change_percent"] < -90).all()
    assert (parameters.loc["s001", "class"] == "").all()
    for site in ("s000", "s002"):
        own, row = parameters.loc[site], sites.loc[site]
        assert row["determined"].split() == own.index[own["class"] == "determined"].tolist()
        assert row["n_eff"] <= row["fit_days"]
        assert 0.5 < row["coverage_test"] <= 1
        assert (own["p05"] < own["p50"]).all()
        assert (own["p50"] < own["p95"]).all()
    assert pd.read_parquet(run.folder / "sites.parquet")["rank"].tolist()[1:] == [3, 3]
    assert (run.folder / "report.html").read_text().count("Which sites carry the information") == 1


def test_a_report_that_cannot_be_drawn_does_not_lose_the_run(config_path, monkeypatch, capsys):
    def fails(folder):
        raise OSError("no space left")

    monkeypatch.setattr(run_module, "write_sites_report", fails)
    monkeypatch.chdir(config_path.parent)
    assert main(["fit", "--config", str(config_path)]) == 0
    shown = capsys.readouterr().out
    assert "The report could not be drawn (no space left). Once that is mended, run `lit-invert report" in shown
    assert "7 of 7 sites fitted." in shown
    assert json.loads((config_path.parent / "logs/toy/version_0/status.json").read_text())["status"] == "finished"


def test_the_terminal_says_where_the_report_is(config_path, monkeypatch, capsys):
    monkeypatch.chdir(config_path.parent)
    assert main(["fit", "--config", str(config_path)]) == 0
    path = config_path.parent / "logs" / "toy" / "version_0" / "report.html"
    assert path.is_file()
    assert f"Report:  {path}" in capsys.readouterr().out


def test_parquet_holds_the_same(config_path):
    folder = run_sites(config_path, "--scale.parquet", "true").folder
    for name in ("sites", "parameters", "metrics"):
        same = pd.read_parquet(folder / f"{name}.parquet")
        assert len(same) == len(values(folder, name))
    optimum = pd.read_parquet(folder / "parameters.parquet")["optimum"].to_numpy(dtype=float)
    assert optimum == pytest.approx(values(folder)["optimum"].to_numpy())


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_other_solvers_fit_many_sites_too(config_path, solver):
    outcome = run_sites(config_path, "--inversion.solver", solver, "--inversion.max_iters", "200")
    assert len(outcome.failed) == 0
    assert (outcome.sites["rmse_change_percent"] < -90).all()


def test_many_starts_of_many_sites(config_path):
    outcome = run_sites(config_path, "--inversion.starts", "4")
    assert outcome.sites["message"].str.contains("best of 4 starts").all()
    assert (outcome.sites["rmse_change_percent"] < -90).all()


def test_plugins_are_told_that_there_are_many_sites(config_path):
    seen = []

    class Plugin:
        HOOK_API = 1

        @hookimpl
        def run_started(self, run):
            seen.append(("started", run.has_many_sites))

        @hookimpl
        def run_finished(self, run):
            seen.append(("finished", run.folder.name))

    from lit_invert.guards import PluginInfo

    registry = build_registry([PluginInfo("listener", Plugin(), "listener", "1")])
    run_sites(config_path, registry=registry)
    assert seen == [("started", True), ("finished", "version_0")]


def test_a_catalogue_is_checked_site_by_site(config_path, monkeypatch, capsys):
    monkeypatch.chdir(config_path.parent)
    assert main(["check", "--config", str(config_path)]) == 0
    assert "s003" in capsys.readouterr().out
    (config_path.parent / "tower_003.csv").write_text("date\n")
    assert main(["check", "--config", str(config_path)]) == 1
    shown = capsys.readouterr().out
    assert "cannot be read" in shown
    assert "s003: " in shown
    assert not (config_path.parent / "logs").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--engine", "ray"], "`scale.engine` is for several sites"),
        (["--sharing.default", "global"], "`sharing` is for several sites"),
        (["--attributes.columns", "[latitude]"], "`attributes.columns` is for several sites"),
    ],
)
def test_what_is_for_many_sites_is_refused_for_one(config_path, overrides, message, capsys):
    one = ["--data.sites", "null", "--data.path", str(config_path.parent / "tower_000.csv"), "--data.latitude", "48"]
    assert main(["fit", "--config", str(config_path), *one, *overrides]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_of_many_sites_says_where_those_of_one_are(config_path):
    folder = run_sites(config_path).folder
    with pytest.raises(ResultsError, match=r"is a run over many sites. Open the folder of one, .*sites/<site>"):
        read_run(folder)


def test_devices_are_for_sites_that_share(config_path):
    with pytest.raises(ConfigError, match="sites that share nothing run on one device each"):
        run_sites(config_path, "--trainer.devices", "2")


@pytest.mark.parametrize("size", ["1", "3"])
def test_the_size_of_a_batch_does_not_change_what_adam_finds(config_path, size):
    for path in config_path.parent.glob("tower_*.csv"):
        frame = pd.read_csv(path)
        frame["nep"] += np.random.default_rng(0).normal(0, 1, len(frame))
        frame.to_csv(path, index=False)
    arguments = ["--inversion.solver", "adam", "--inversion.max_iters", "100", "--trainer.gradient_clip_val", "0.05"]
    whole = values(run_sites(config_path, *arguments).folder)
    parts = values(run_sites(config_path, *arguments, "--scale.batch_sites", size).folder)
    assert parts["optimum"].to_numpy() == pytest.approx(whole["optimum"].to_numpy(), rel=1e-5)


def test_a_users_callback_is_new_for_each_batch(config_path):
    stop = ["--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor=loss/total"]
    stop += ["--trainer.check_val_every_n_epoch", "1", "--inversion.solver", "adam", "--inversion.max_iters", "120"]
    one_by_one = run_sites(config_path, *stop, "--scale.batch_sites", "1").sites.set_index("site")
    catalogue = pd.read_csv(config_path.parent / "sites.csv")
    catalogue.iloc[[2]].to_csv(config_path.parent / "sites.csv", index=False)
    alone = run_sites(config_path, *stop, "--scale.batch_sites", "1").sites.set_index("site")
    assert alone.loc["s002", "iterations"] == one_by_one.loc["s002", "iterations"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"], "ModelCheckpoint has no place"),
        (["--inversion.solver", "adam", "--inversion.starts", "4"], "'adam' starts from one place"),
        (["--inversion.target_variable", "nee"], "'nee' is not an output"),
    ],
)
def test_a_fault_of_all_sites_is_one_line_before_anything_is_written(config_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        run_sites(config_path, *overrides)
    assert not (config_path.parent / "logs").exists()


def test_the_second_process_of_a_run_of_sites_on_their_own_does_nothing(config_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_sites(config_path) is None
    assert not (config_path.parent / "logs").exists()
