"""A whole fit: from files to a folder, and what stands in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_invert.config import parse_fit
from lit_invert.errors import ConfigError, PluginError, ResultsError
from lit_invert.extensions import Check, Verdict
from lit_invert.fit import fit, read_inputs
from lit_invert.guards import PluginInfo
from lit_invert.hookspecs import hookimpl
from lit_invert.plugins import build_registry
from lit_invert.results import read_run
from lit_invert.testing import toy_truth
from tests.toy_fit import write_toy_fit


@pytest.fixture
def config_path(tmp_path):
    return write_toy_fit(tmp_path)


def run(config_path, *overrides, registry=None):
    registry = registry or build_registry()
    return fit(parse_fit(["--config", str(config_path), *overrides], registry), registry)


def test_a_fit_recovers_the_truth_and_improves_days_never_seen(config_path):
    outcome = run(config_path, "--inversion.max_iters", "400", "--inversion.lambda_prior", "0")
    assert outcome.result.optimum.numpy() == pytest.approx(toy_truth().numpy(), abs=0.01)
    test = outcome.metrics["roles"]["test"]["nep"]
    assert test["n"] == 20
    assert test["rmse_change_percent"] < -95


def test_the_folder_holds_what_was_promised(config_path):
    folder = run(config_path).folder
    assert folder.name == "version_0"
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert {"config.yaml", "parameters.csv", "fluxes.csv", "metrics.json", "history.csv", "provenance.json", "report.html"} <= names
    assert {"status.json", "figures/series.png", "checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= names
    assert json.loads((folder / "status.json").read_text())["status"] in ("step_limit", "early_stopped")
    provenance = json.loads((folder / "provenance.json").read_text())
    assert set(provenance["sha256"]) == {"surrogate_weights", "surrogate_spec", "parameters", "data", "config"}
    assert provenance["plugins"]["builtin"].startswith("lit-invert")


def test_weather_from_a_file_of_its_own_is_hashed_too(config_path):
    folder = run(config_path, "--data.drivers_path", str(config_path.parent / "tower.csv"), "--inversion.max_iters", "2").folder
    sha256 = json.loads((folder / "provenance.json").read_text())["sha256"]
    assert sha256["drivers"] == sha256["data"]


def test_the_same_seed_gives_the_same_bytes(config_path):
    first, second = run(config_path).folder, run(config_path).folder
    assert (first.name, second.name) == ("version_0", "version_1")
    assert (first / "parameters.csv").read_bytes() == (second / "parameters.csv").read_bytes()
    assert (first / "fluxes.csv").read_bytes() == (second / "fluxes.csv").read_bytes()


def test_a_saved_config_repeats_its_run(config_path):
    first = run(config_path).folder
    second = run(first / "config.yaml").folder
    assert second.parent == first.parent
    assert (first / "parameters.csv").read_bytes() == (second / "parameters.csv").read_bytes()


def test_tensorboard_shows_terms_parameters_figure_and_hyperparameters(config_path):
    config_path.write_text(config_path.read_text().replace("logger: false", ""))
    folder = run(config_path).folder
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"loss/total", "loss/misfit", "loss/prior", "weighted/prior", "gradient_norm", "clipped_share"} <= tags
    assert {"theta/s1", "theta/s2", "theta/s3", "fit/rmse", "select/rmse", "hp/test_rmse_before", "hp/test_rmse_after"} <= tags
    assert events.Tags()["images"] == ["nep"]
    steps = [event.step for event in events.Scalars("theta/s1")]
    assert steps == [9, 19, 29, 39, 49, 59]
    last = {tag: events.Scalars(tag)[-1].value for tag in tags}
    assert last["weighted/misfit"] + last["weighted/prior"] == pytest.approx(last["loss/total"], rel=1e-5)


@pytest.mark.parametrize("asked", ["last", "best"])
def test_a_fit_goes_on_from_a_checkpoint_of_the_newest_run(config_path, asked):
    run(config_path, "--inversion.max_iters", "20")
    outcome = run(config_path, "--ckpt_path", asked)
    assert outcome.result.iterations == 60
    whole = run(config_path)
    assert outcome.result.history["loss/total"].tolist() == whole.result.history["loss/total"].tolist()


def test_a_checkpoint_that_is_not_there_is_said_before_anything_is_written(config_path, tmp_path):
    with pytest.raises(ResultsError, match=r"--ckpt_path last`: no run in .*logs.toy has a checkpoint last.ckpt"):
        run(config_path, "--ckpt_path", "last")
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("content", "arguments", "error", "message"),
    [
        (b"junk", ["--ckpt_path", "junk.ckpt"], ResultsError, r"junk.ckpt is not a whole checkpoint"),
        (b"", ["--inversion.early_stopping.monitor", "select", "--data.split.select", "[]"], ConfigError, "no day has that role"),
    ],
)
def test_what_cannot_be_fitted_is_said_before_anything_is_written(
    config_path, tmp_path, monkeypatch, content, arguments, error, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk.ckpt").write_bytes(content)
    with pytest.raises(error, match=message):
        run(config_path, *arguments)
    assert not (tmp_path / "logs").exists()


def test_a_checkpoint_of_another_space_is_refused_before_anything_is_written(config_path):
    first = run(config_path).folder
    with pytest.raises(ConfigError, match="checkpoint was made with the transform 'scaled', this run uses 'sigmoid'"):
        run(config_path, "--ckpt_path", "last", "--constraints.transform", "sigmoid")
    assert [p.name for p in first.parent.iterdir()] == ["version_0"]


def test_use_mask_false_counts_days_of_poor_quality(config_path, tmp_path):
    tower = pd.read_csv(tmp_path / "tower.csv")
    tower.loc[::3, "n_good"] = 0
    tower.to_csv(tmp_path / "tower.csv", index=False)
    counts = [run(config_path, "--inversion.use_mask", flag).metrics["roles"]["fit"]["nep"]["n"] for flag in ("true", "false")]
    assert counts[0] < 0.75 * counts[1]


def test_skipping_checks_does_not_skip_mistakes(config_path, tmp_path):
    with pytest.raises(ConfigError, match="'nee' is not an output of the surrogate"):
        run(config_path, "--checks", "skip", "--inversion.target_variable", "nee")
    assert not (tmp_path / "logs").exists()


class Recorder:
    """A plugin that notes what happens, and fails where it is told to."""

    HOOK_API = 1

    def __init__(self, fails_at=""):
        self.events, self.fails_at = [], fails_at

    def _note(self, name, run):
        self.events.append((name, run.folder.is_dir(), (run.folder / "metrics.json").exists()))
        if name == self.fails_at:
            raise RuntimeError("no more")

    @hookimpl
    def run_started(self, run):
        self._note("started", run)

    @hookimpl
    def run_finished(self, run):
        self._note("finished", run)

    @hookimpl
    def run_failed(self, run, error):
        self._note(f"failed: {type(error).__name__}", run)

    @hookimpl
    def register_callbacks(self, run):
        if self.fails_at == "callbacks":
            raise RuntimeError("no more")
        return []


def with_plugin(plugin):
    return build_registry([PluginInfo("recorder", plugin, "recorder-dist", "2.0")])


def test_events_come_when_they_should(config_path):
    recorder = Recorder()
    run(config_path, registry=with_plugin(recorder))
    assert recorder.events == [("started", True, False), ("finished", True, True)]


def test_a_plugin_that_fails_at_the_start_marks_the_folder(config_path, tmp_path):
    with pytest.raises(PluginError, match="failed in run_started"):
        run(config_path, registry=with_plugin(Recorder(fails_at="started")))
    assert json.loads((tmp_path / "logs" / "toy" / "version_0" / "status.json").read_text())["status"] == "failed"


def test_a_failure_in_the_run_marks_the_folder_and_tells_plugins(config_path, tmp_path):
    before = run(config_path).folder
    kept = {p: p.read_bytes() for p in before.rglob("*") if p.is_file()}
    recorder = Recorder(fails_at="callbacks")
    with pytest.raises(
        Exception, match=r"plugin 'recorder' \(recorder-dist 2.0\) failed in register_callbacks: RuntimeError: no more"
    ):
        run(config_path, registry=with_plugin(recorder))
    assert [event[0] for event in recorder.events] == ["started", "failed: PluginError"]
    status = json.loads((before.parent / "version_1" / "status.json").read_text())
    assert status["status"] == "failed"
    assert "recorder-dist" in status["message"]
    assert {p: p.read_bytes() for p in before.rglob("*") if p.is_file()} == kept


class Refuses:
    """A plugin with a check that fails."""

    @hookimpl
    def register_checks(self):
        return [Check("refuses", lambda problem, site: Verdict("refuses", "fail", "this surrogate is not fit."))]


def test_a_failing_check_stops_the_fit_before_anything_is_written(config_path, tmp_path):
    registry = build_registry([PluginInfo("refuses", Refuses(), "refuses-dist", "1.0")])
    with pytest.raises(ConfigError, match=r"check failed before the fit: refuses: this surrogate is not fit"):
        run(config_path, registry=registry)
    assert not (tmp_path / "logs").exists()
    outcome = run(config_path, "--checks", "warn", registry=registry)
    assert [v.outcome for v in outcome.verdicts if v.check == "refuses"] == ["fail"]


def test_no_test_value_can_be_reached_by_a_plugin(config_path):
    """The problem and the module that callbacks see carry no observation of a `test` day."""
    registry = build_registry()
    config = parse_fit(["--config", str(config_path)], registry)
    inputs = read_inputs(config, registry)
    is_test = inputs.site.roles == "test"
    assert is_test.sum() == 20
    assert np.isnan(inputs.site.fit.values[is_test]).all()
    assert np.isnan(inputs.site.select.values[is_test]).all()
    assert repr(inputs.sealed) == "SealedObservations(...)"
    once = inputs.sealed.open()
    assert np.isfinite(once.values[is_test, 2]).all()


def test_two_devices_give_the_same_answer_and_one_folder(config_path, tmp_path):
    single = run(config_path).folder
    command = [sys.executable, "-m", "lit_invert", "fit", "--config", str(config_path)]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {p.name for p in single.parent.iterdir()} == {"version_0", "version_1"}
    one, two = (pd.read_csv(single.parent / f"version_{i}" / "parameters.csv")["optimum"] for i in (0, 1))
    assert two.to_numpy() == pytest.approx(one.to_numpy(), rel=1e-5)


def test_a_second_process_that_nobody_told_writes_nothing(config_path, tmp_path, monkeypatch):
    """As under torchrun, where processes do not start each other: rank 1 fits along and leaves results and events to rank 0."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("LIT_INVERT_RUN_FOLDER", raising=False)
    recorder = Recorder()
    assert run(config_path, registry=with_plugin(recorder)) is None
    assert recorder.events == []
    assert not (tmp_path / "logs").exists()


def test_the_run_can_be_opened_again(config_path):
    outcome = run(config_path)
    again = read_run(outcome.folder)
    assert again.metrics["roles"]["fit"]["nep"]["n"] == outcome.metrics["roles"]["fit"]["nep"]["n"]
    assert again.parameters["optimum"].to_numpy() == pytest.approx(outcome.result.optimum.numpy(), rel=1e-8)


def test_weather_from_another_file_is_hashed_too(config_path):
    config_path.write_text(config_path.read_text().replace("  path: tower.csv", "  path: tower.csv\n  drivers_path: tower.csv"))
    hashes = read_run(run(config_path, "--inversion.max_iters", "2").folder).provenance["sha256"]
    assert hashes["drivers"] == hashes["data"]


@pytest.mark.parametrize("name", ["fr_hes", "us_ar1"])
def test_shipped_configs_run(name, tmp_path):
    shipped = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
    outcome = run(shipped, "--logs", str(tmp_path), "--trainer.fast_dev_run", "true", "--resimulate", "null")
    assert {role for role, scores in outcome.metrics["roles"].items() if scores["nep"]["n"]} == {"fit", "select", "test"}


class Asks:
    """A plugin whose checks look at the run."""

    def __init__(self):
        self.runs = []

    @hookimpl
    def register_checks(self):
        def note(problem, site, run):
            self.runs.append(run)

        def never(problem, site):
            raise AssertionError("a check of a validation was asked before a fit")

        return [Check("note", note), Check("slow", never, when="validation")]


def test_a_check_knows_the_run_and_may_have_nothing_to_say(config_path, tmp_path):
    plugin = Asks()
    outcome = run(config_path, registry=build_registry([PluginInfo("asks", plugin, "asks-dist", "1.0")]))
    (seen,) = plugin.runs
    assert (seen.name, seen.folder, seen.runs) == ("toy", None, tmp_path / "logs" / "toy")
    assert not {"note", "slow"} & {verdict.check for verdict in outcome.verdicts}
    assert outcome.folder.parent == seen.runs
