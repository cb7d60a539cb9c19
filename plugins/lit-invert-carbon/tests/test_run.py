"""During a fit the budget goes to the loggers, after it into the folder; the parameters do not notice."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lit_invert_carbon import CarbonSettings, register_callbacks, run_finished
from lit_invert_carbon.budget import load_budget
from lit_invert_carbon.monitor import simulated_budget

from lit_invert import InversionSettings, RunInfo, invert
from lit_invert.cli import main
from lit_invert.observations import Observations
from lit_invert.testing import toy_forcing, toy_problem, toy_surrogate, toy_table, toy_truth

LABELS = ["GPP", "NPP", "NEP", "Rh", "CUE"]
CONFIG = """\
name: toy
logs: logs
surrogate: {spec: spec.json}
parameters: table.csv
data:
  path: tower.csv
  latitude: 48.0
  observed:
    nep: {column: nep, sign: nep, unit: gC m-2 d-1}
inversion: {lr: 0.05, max_iters: 6}
logger:
  class_path: CSVLogger
  init_args: {save_dir: scalars}
trainer: {accelerator: cpu, limit_train_batches: 2, enable_progress_bar: false}
"""
NEEDS_INSTALLATION = pytest.mark.skipif(
    "carbon" not in entry_points(group="lit_invert").names, reason="the plugin is not installed, only on the path"
)


def _run(folder: Path | None, **sections) -> RunInfo:
    return RunInfo("fit", "toy", folder, 0, sections)


def _simulate_truth(days: int) -> torch.Tensor:
    surrogate = toy_surrogate()
    scaled = surrogate.static_scaler.to_scaled(toy_truth().float())[None]
    return surrogate(scaled, surrogate.prepare(toy_forcing(days)))[0].detach()


def _invert(iterations, callbacks, logger=False):
    """Invert the toy against its own NEP, two iterations an epoch."""
    fluxes = _simulate_truth(60).double().numpy()
    dates = np.datetime64("2016-01-01") + np.arange(60)
    is_nep = np.broadcast_to(np.arange(4) == 2, fluxes.shape)
    surrogate = toy_surrogate()
    return invert(
        surrogate,
        toy_table(),
        toy_forcing(60)[0],
        Observations(dates, surrogate.spec.output_names, fluxes, is_nep.copy()),
        InversionSettings(lr=0.05, max_iters=iterations),
        trainer={"accelerator": "cpu", "enable_progress_bar": False, "limit_train_batches": 2},
        callbacks=callbacks,
        logger=logger,
    )


def _logged(folder: Path) -> pd.DataFrame:
    """Return the rows of the budget in what a CSVLogger has written below a folder."""
    (path,) = folder.rglob("metrics.csv")
    frame = pd.read_csv(path).set_index("step")
    return frame[[c for c in frame if c.startswith("carbon/")]].dropna(how="all")


def test_the_first_iteration_has_the_budget_of_the_prior(tmp_path):
    result = _invert(1, register_callbacks(_run(None)), CSVLogger(tmp_path))
    row = _logged(tmp_path).loc[0]
    gpp, npp, nep, rh = 365.25 * result.simulated_prior.mean(0)
    assert row[[f"carbon/{label}" for label in LABELS]].tolist() == pytest.approx([gpp, npp, nep, rh, npp / gpp], rel=1e-9)


def test_each_epoch_logs_the_budget_of_its_own_last_iteration(tmp_path):
    _invert(6, register_callbacks(_run(None, carbon=CarbonSettings())), CSVLogger(tmp_path / "six"))
    _invert(4, register_callbacks(_run(None, carbon=CarbonSettings())), CSVLogger(tmp_path / "four"))
    six, four = _logged(tmp_path / "six"), _logged(tmp_path / "four")
    assert six.index.tolist() == [1, 3, 5]
    pd.testing.assert_frame_equal(six.loc[[1, 3]], four)
    assert six["carbon/GPP"].is_unique
    np.testing.assert_allclose(six["carbon/NEP"], six["carbon/NPP"] - six["carbon/Rh"], rtol=1e-5)


def test_watching_changes_no_parameter():
    watched, alone = _invert(6, register_callbacks(_run(None))), _invert(6, [])
    assert torch.equal(watched.optimum, alone.optimum)


def test_the_section_turns_the_callback_off():
    assert len(register_callbacks(_run(None, carbon=CarbonSettings()))) == 1
    assert register_callbacks(_run(None, carbon=CarbonSettings(log_budget=False))) == []


def test_a_missing_flux_is_left_out():
    evaluation = toy_problem().evaluate(torch.zeros(1, 3, dtype=torch.float64))
    whole = simulated_budget(evaluation)
    no_npp = replace(evaluation, outputs=("gpp", "leaf_area", "nep", "rh"))
    assert simulated_budget(no_npp) == {label: whole[label] for label in ("GPP", "NEP", "Rh")}
    assert simulated_budget(replace(evaluation, outputs=("a", "b", "c", "d"))) == {}


def test_a_dead_canopy_has_no_efficiency():
    evaluation = toy_problem().evaluate(torch.zeros(1, 3, dtype=torch.float64))
    dead = simulated_budget(replace(evaluation, simulated=torch.zeros_like(evaluation.simulated)))
    assert dead == {"GPP": 0, "NPP": 0, "NEP": 0, "Rh": 0}


def test_the_file_holds_the_budget_to_nine_digits(tmp_path):
    means = {"gpp_optimum": 9.15, "npp_optimum": 4.5, "nep_optimum": 1.5, "rh_optimum": 3.0}
    pd.DataFrame([means]).to_csv(tmp_path / "fluxes.csv", index=False)
    run_finished(_run(tmp_path))
    assert (tmp_path / "carbon_budget.csv").read_text() == (
        "run,GPP,NPP,NEP,Rh,CUE\noptimum,3342.0375,1643.625,547.875,1095.75,0.491803279\n"
    )


def test_no_folder_or_no_carbon_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_finished(_run(None))
    pd.DataFrame({"discharge_optimum": [1.0]}).to_csv(tmp_path / "fluxes.csv", index=False)
    run_finished(_run(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["fluxes.csv"]


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A whole fit of 120 days in one folder."""
    spec = replace(toy_surrogate().spec, loader="import", architecture={"class_path": "lit_invert.testing.ToyNetwork"})
    spec.save(tmp_path / "spec.json")
    rows = [f"{name},-,2.0,0.5,0.5,3.5" for name in toy_table().names]
    (tmp_path / "table.csv").write_text("\n".join(["name,unit,prior,prior_sd,min,max", *rows]))
    tower = pd.DataFrame(toy_forcing(120)[0].numpy(), columns=[driver.name for driver in spec.drivers])
    tower.insert(0, "date", pd.date_range("2016-01-01", periods=120).strftime("%Y-%m-%d"))
    tower["nep"] = _simulate_truth(120)[:, 2].numpy()
    tower.to_csv(tmp_path / "tower.csv", index=False)
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config.yaml"


@NEEDS_INSTALLATION
def test_a_fit_from_the_command_line_logs_the_budget_and_leaves_the_file(config):
    assert main(["fit", "--config", str(config)]) == 0
    folder = config.parent / "logs" / "toy" / "version_0"
    written = pd.read_csv(folder / "carbon_budget.csv", index_col="run")
    pd.testing.assert_frame_equal(written, load_budget(folder), check_names=False, rtol=1e-8)
    assert written.index.tolist() == ["prior", "optimum"]
    logged = _logged(config.parent / "scalars")
    assert set(logged) == {f"carbon/{label}" for label in LABELS}
    assert logged.index.tolist() == [1, 3, 5]


@NEEDS_INSTALLATION
def test_the_block_of_the_config_is_checked_and_obeyed(config, capsys):
    assert main(["fit", "--config", str(config), "--carbon.log_budgets", "false"]) == 2
    assert "`--carbon.log_budget`" in capsys.readouterr().err
    config.write_text(f"{CONFIG}carbon: {{log_budget: false}}\n")
    assert main(["fit", "--config", str(config)]) == 0
    assert _logged(config.parent / "scalars").empty
