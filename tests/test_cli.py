from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from lit_invert import cli
from lit_invert.cli import COMMANDS, main
from lit_invert.errors import DivergenceError, LitInvertError
from lit_invert.plugins import Registry
from lit_invert.surrogates.base import SurrogateSpec, Variable
from lit_invert.testing import toy_truth
from tests.toy_fit import write_toy_fit


@pytest.fixture
def config(tmp_path):
    return write_toy_fit(tmp_path)


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_help_and_version_need_no_torch():
    done = run_python(
        "import sys\nfrom lit_invert.cli import main\n"
        "assert main(['--help']) == main(['--version']) == 0\n"
        "heavy = {'torch', 'lightning', 'numpy', 'pandas', 'jsonargparse', 'yaml', 'rich', 'pluggy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert done.returncode == 0, done.stderr
    assert f"lit-invert {version('lit-invert')}" in done.stdout
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_help_answers_at_once():
    """Best of three, since other work may run beside it; an empty Python is taken off."""
    code = "import sys; from lit_invert.cli import main; main(['--help'])"

    def seconds(code):
        start = time.perf_counter()
        run_python(code)
        return time.perf_counter() - start

    assert min(seconds(code) for _ in range(3)) - min(seconds("pass") for _ in range(3)) < 0.3


def test_a_reader_that_stops_is_no_error():
    command = [sys.executable, "-m", "lit_invert", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, "")


def test_python_m_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "lit_invert", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"lit-invert {version('lit-invert')}\n")


def test_nothing_to_do_shows_help_and_is_a_mistake(capsys):
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: lit-invert COMMAND")


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["fitt"]) == 2
    assert "'fitt' is not a command. Did you mean 'fit'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(LitInvertError("a table"), 2), (DivergenceError("the loss is NaN", 3), 1), (KeyboardInterrupt(), 130)],
)
def test_exit_codes(monkeypatch, capsys, error, code):
    def fail(arguments):
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert main(["fit"]) == code
    output = capsys.readouterr().err
    assert output.startswith("lit-invert: ")
    assert output.count("\n") == 1


def test_verbose_shows_the_traceback(capsys):
    assert main(["fitt", "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_our_own_faults_keep_their_traceback(monkeypatch):
    def fail(arguments):
        raise KeyError("bug")

    monkeypatch.setattr(cli, "_dispatch", fail)
    with pytest.raises(KeyError):
        main(["fit"])


def test_fit_recovers_the_truth_and_says_what_it_did(config, capsys):
    assert main(["fit", "--config", str(config), "--inversion.lambda_prior", "0", "--inversion.max_iters", "400"]) == 0
    output, error = capsys.readouterr()
    assert error == ""
    folder = config.parent / "logs" / "toy" / "version_0"
    optimum = pd.read_csv(folder / "parameters.csv")["optimum"].to_numpy()
    assert np.abs(optimum - toy_truth().numpy()).max() < 0.05
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["roles"]["test"]["nep"]["rmse_change_percent"] < -90
    assert all(word in output for word in ("gC m-2 d-1", "optimum", "shift [prior sd]", "20 test days", str(folder)))


def test_a_run_is_repeated_from_its_own_folder_to_the_same_bytes(config):
    assert main(["fit", "--config", str(config)]) == 0
    runs = config.parent / "logs" / "toy"
    assert main(["fit", "--config", str(runs / "version_0" / "config.yaml")]) == 0
    first, second = (runs / f"version_{n}" / "parameters.csv" for n in (0, 1))
    assert first.read_bytes() == second.read_bytes()
    assert (runs / "version_0" / "config.yaml").read_bytes() == (runs / "version_1" / "config.yaml").read_bytes()


def test_a_finished_run_can_be_reported_and_used_again(config, capsys):
    assert main(["fit", "--config", str(config)]) == 0
    run = config.parent / "logs" / "toy" / "version_0"
    report = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_bytes() == report
    assert main(["predict", str(run), "--data", str(config.parent / "tower.csv")]) == 0
    predicted, fluxes = pd.read_csv(run / "predicted_tower.csv"), pd.read_csv(run / "fluxes.csv")
    np.testing.assert_allclose(predicted["nep_optimum"], fluxes["nep_optimum"], atol=1e-5)
    assert predicted["date"].tolist() == fluxes["date"].tolist()
    assert str(run / "predicted_tower.csv") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["report", "nowhere"], "nowhere: no such folder"),
        (["report", "."], "is not the folder of a run"),
        (["predict", "nowhere"], "required: --data"),
        (["predict", "nowhere", "--data", "a.csv"], "nowhere: no such folder"),
        (["resimulate"], "required: run"),
        (["doctor", "please"], "unrecognized arguments: please"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml: config file cannot be read"),
    ],
)
def test_mistakes_with_other_commands_are_one_line(tmp_path, monkeypatch, capsys, argv, expected):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_check_shows_verdicts_and_writes_nothing(config, capsys):
    before = sorted(config.parent.rglob("*"))
    assert main(["check", "--config", str(config)]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("forcing", "gradient", "pass"))
    assert re.search(r"120 days from 2016-01-01 to \S+: \d+ fit, .*\d+ select, \d+ test", output), output
    assert sorted(config.parent.rglob("*")) == before


def test_check_fails_where_a_fit_would(config, capsys):
    text = (config.parent / "table.csv").read_text().replace("first,2.0,0.5,0.5,3.5", "first,9.0,0.5,0.5,9.5")
    (config.parent / "table.csv").write_text(text)
    assert main(["check", "--config", str(config)]) == 1
    assert "fail" in capsys.readouterr().out
    assert main(["fit", "--config", str(config)]) == 2
    assert "check failed before the fit: prior" in capsys.readouterr().err


def test_plugins_lists_our_own(capsys):
    assert main(["plugins"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("builtin", "misfit", "simcycle", "adamw", "torchscript"))


STRANGER = """
from torch import nn
import torch


class Grassland(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.memory = nn.GRU(7 + 3, width, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, static, forcing):
        days = forcing.shape[1]
        forcing = forcing.expand(static.shape[0], -1, -1)
        inputs = torch.cat([forcing, static[:, None].expand(-1, days, -1)], -1)
        return self.head(self.memory(inputs)[0])
"""
STRANGERS_TABLE = """\
name,unit,prior,prior_sd,min,max,scale
vcmax,umol m-2 s-1,60,15,20,100,lin
q10,-,2,0.4,1.2,3.5,lin
sla,m2 kg-1,20,6,8,40,log
gs1,kPa0.5,4,1,2,8,lin
kroot,d-1,0.002,0.0005,0.0005,0.004,log
fleaf,-,0.4,0.1,0.1,0.7,lin
rhbase,gC m-2 d-1,2,0.5,0.5,4,lin
"""
STRANGERS_CONFIG = """\
name: grassland
logger: false
surrogate: {spec: model/spec.json}
parameters: table.csv
data: {path: FLX_XX-Str_DD.csv, latitude: 46.8}
inversion: {lr: 0.05, max_iters: 120, lambda_prior: 0.01}
trainer: {accelerator: cpu, enable_progress_bar: false}
"""


def write_stranger(folder):
    """A GRU, seven parameters and a FLUXNET file that the project has never seen; NEE is the GRU's own at another optimum."""
    (folder / "strangers_net.py").write_text(STRANGER)
    (folder / "table.csv").write_text(STRANGERS_TABLE)
    (folder / "config.yaml").write_text(STRANGERS_CONFIG)
    (folder / "model").mkdir()
    space: dict = {}
    exec(STRANGER, space)
    network: nn.Module = space["Grassland"](8)
    torch.save(network.state_dict(), folder / "model" / "gru.pt")
    rows = [line.split(",") for line in STRANGERS_TABLE.splitlines()[1:]]
    statics = [Variable(row[0], row[1], float(row[2]), float(row[3])) for row in rows]
    drivers = (
        Variable("tmp_2m", "K", 283.0, 8.0),
        Variable("dswrf", "W m-2", 150.0, 80.0),
        Variable("prate", "kg m-2 s-1", 2e-5, 4e-5),
    )
    SurrogateSpec(
        "grassland",
        tuple(statics),
        drivers,
        (Variable("nep", "umol m-2 s-1"),),
        loader="import",
        weights="gru.pt",
        architecture={"class_path": "strangers_net.Grassland", "init_args": {"width": 8}},
    ).save(folder / "model" / "spec.json")
    days, rng = 365, np.random.default_rng(3)
    season = np.sin(2 * np.pi * (np.arange(days) - 105) / 365)
    air, light, rain = 10 + 8 * season + rng.normal(size=days), 150 + 90 * season, rng.gamma(0.3, 6, days)
    forcing = torch.tensor(np.stack([(air - 9.85) / 8, (light - 150) / 80, (rain / 86400 - 2e-5) / 4e-5], -1)).float()[None]
    with torch.no_grad():
        nep = network(torch.full((1, 7), 0.8), forcing)[0, :, 0].numpy() * 12.011e-6 * 86400
    table = pd.DataFrame({
        "TIMESTAMP": pd.date_range("2019-01-01", periods=days).strftime("%Y%m%d"),
        "TA_F": air, "SW_IN_F": light, "P_F": rain,
        "NEE_VUT_REF": np.where(np.arange(days) % 11 == 0, -9999, -nep), "NEE_VUT_REF_QC": 0.95,
    })  # fmt: skip
    table.to_csv(folder / "FLX_XX-Str_DD.csv", index=False)


def test_what_the_project_has_never_seen_is_inverted_by_config_alone(tmp_path, monkeypatch, capsys):
    write_stranger(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    argv = ["fit", "--config", str(tmp_path / "config.yaml"), "--logs", str(tmp_path / "logs")]
    assert main(argv) == 2
    assert "add `--allow-import strangers_net`" in capsys.readouterr().err
    assert main([*argv, "--allow-import", "strangers_net"]) == 0
    folder = tmp_path / "logs" / "grassland" / "version_0"
    scores = json.loads((folder / "metrics.json").read_text())["roles"]["test"]["nep"]
    assert scores["n"] > 20
    assert scores["rmse_change_percent"] < -50
    assert pd.read_csv(folder / "parameters.csv")["name"].tolist() == ["vcmax", "q10", "sla", "gs1", "kroot", "fleaf", "rhbase"]


class PressCtrlC(Callback):
    """Send this process what Ctrl-C sends, in the middle of a fit."""

    def on_train_batch_end(self, trainer, *arguments):
        if trainer.global_step == 30:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_keeps_the_best_iterate_and_writes_it(config, monkeypatch):
    monkeypatch.setattr(Registry, "callbacks", lambda registry, run: [PressCtrlC()])
    before, handler = signal.getsignal(signal.SIGINT), signal.default_int_handler
    signal.signal(signal.SIGINT, handler)  # who runs the tests in the background has it ignored
    assert main(["fit", "--config", str(config)]) == 130
    folder = config.parent / "logs" / "toy" / "version_0"
    assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
    assert json.loads((folder / "metrics.json").read_text())["iterations"] == 30
    assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, before)
