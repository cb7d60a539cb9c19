"""A program named by a config: trusted on the command line alone, run after the fit, and never a reason to lose it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lit_invert.cli import main
from lit_invert.config import parse_fit
from lit_invert.external import ExternalSettings
from lit_invert.plugins import load_plugins
from lit_invert.results import read_run
from tests.external.programs import write_program
from tests.toy_fit import write_toy_fit

#: The toy's own fluxes are not needed: what comes back is told apart from the surrogate's.
SCRIPT = """
import csv, json, sys
if len(sys.argv) > 4:
    sys.exit("no soil")
values = json.load(open(sys.argv[1]))
rows = [[day["date"], values["s1"], values["s2"], -values["s3"], 1.0] for day in csv.DictReader(open(sys.argv[2]))]
csv.writer(open(sys.argv[3], "w")).writerows([["date", "A", "B", "C", "D"], *rows])
"""
BLOCK = """
resimulate:
  command: [./model.py, "{parameters}", "{forcing}", "{output}"]
  template: values.json
  outputs:
    gpp: {column: A}
    npp: {column: B}
    nep: {column: C, sign: nee}
    rh: {column: D}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A whole fit in a folder of its own, started from another."""
    folder = tmp_path / "project"
    folder.mkdir()
    path = write_toy_fit(folder)
    write_program(folder, SCRIPT)
    (folder / "values.json").write_text('{{"s1": {s1}, "s2": {s2}, "s3": {s3}}}')
    path.write_text(path.read_text() + BLOCK)
    monkeypatch.chdir(tmp_path)
    return path


def fit(config, *arguments):
    return main(["fit", "--config", str(config), *map(str, arguments)])


def test_a_fit_runs_it_and_the_run_can_repeat_it(config, capsys):
    program = config.parent / "model.py"
    assert fit(config, "--trust", program) == 0
    run = read_run(next((config.parent / "logs" / "toy").iterdir()))
    optimum = run.parameters["optimum"].to_numpy()
    found = run.fluxes[["gpp_resimulated", "npp_resimulated", "nep_resimulated", "rh_resimulated"]]
    np.testing.assert_allclose(found, np.tile([*optimum, 1.0], (len(found), 1)), rtol=1e-8)
    assert main(["resimulate", str(run.folder), "--trust", str(program)]) == 0
    again = pd.read_csv(run.folder / "resimulated.csv")
    np.testing.assert_allclose(again[["gpp", "npp", "nep", "rh"]], found, rtol=1e-8)
    assert main(["resimulate", str(run.folder)]) == 2
    assert "add `--trust project/model.py`" in capsys.readouterr().err


def test_without_trust_nothing_is_read_or_written(config, capsys):
    assert fit(config) == 2
    error = capsys.readouterr().err
    assert "running 'project/model.py' executes code that the config names" in error
    assert error.count("\n") == 1
    assert not (config.parent / "logs").exists()


def test_a_program_that_fails_does_not_cost_the_fit(config, capsys):
    config.write_text(config.read_text().replace('"{output}"]', '"{output}", fail]'))
    assert fit(config, "--trust", config.parent / "model.py") == 0
    run = read_run(next((config.parent / "logs" / "toy").iterdir()))
    (failed,) = [check for check in run.metrics["checks"] if check["check"] == "resimulate"]
    assert failed["outcome"] == "fail"
    assert failed["message"].startswith("model.py: ended with exit code 1, expected 0. It said: no soil")
    assert "nep_resimulated" not in run.fluxes
    (run.folder / "resimulated.csv").write_text("earlier")
    assert main(["resimulate", str(run.folder), "--trust", str(config.parent / "model.py")]) == 2
    assert (run.folder / "resimulated.csv").read_text() == "earlier"
    assert "ended with exit code 1" in capsys.readouterr().err


def test_what_needs_no_process_model_starts_none_and_asks_for_no_trust(config, capsys):
    program = config.parent / "model.py"
    assert fit(config, "--trust", program) == 0
    program.unlink()
    run = next((config.parent / "logs" / "toy").iterdir())
    assert main(["sensitivity", str(run), "--samples", "2"]) == 0
    for command in ("recover", "calibrate-posterior"):
        assert main([command, "--config", str(config), "--twins", "2"]) == 0
    assert main(["resimulate", str(run)]) == 2
    assert "model.py' is not there" in capsys.readouterr().err


def test_a_wrong_format_of_the_template_is_refused_before_the_fit(config, capsys):
    (config.parent / "values.json").write_text('{{"s1": {s1},\n "s2": {s2:s}}}')
    assert fit(config, "--trust", config.parent / "model.py") == 2
    assert "values.json:2: format 's' does not fit the value of 's2'" in capsys.readouterr().err
    assert not (config.parent / "logs").exists()


def test_paths_of_the_block_are_meant_from_the_config_and_from_the_run(config):
    """Words that start with ./ or ../ are paths; others, such as options and placeholders, stay as they are."""
    config.write_text(config.read_text().replace("[./model.py,", "[./model.py, -x, ../data.nc,"))
    registry = load_plugins()
    first = parse_fit(["--config", str(config)], registry)
    assert isinstance(first.resimulate, ExternalSettings)
    command = [str(config.parent / "model.py"), "-x", str(config.parent / "../data.nc"), "{parameters}", "{forcing}", "{output}"]
    assert first.resimulate.command == command
    assert (first.resimulate.template, first.resimulate.timeout) == (str(config.parent / "values.json"), 600.0)
    run = config.parent / "logs" / "toy" / "version_4"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(first.text)
    again = parse_fit(["--config", str(run / "config.yaml")], registry).resimulate
    assert [Path(word).resolve() for word in again.command] == [Path(word).resolve() for word in command]
    assert Path(again.template).resolve() == config.parent / "values.json"
    assert str(config.parent) not in first.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("template: values.json", "template: none.json", "none.json: template cannot be read"),
        ("gpp: {column: A}", "gpp: {colum: A}", "colum"),
        (
            "{column: C, sign: nee}",
            "{column: C, sign: nee, unit: gC}",
            "`resimulate.outputs.nep.unit`: 'gC' is not a carbon flux unit",
        ),
        ("    gpp: {column: A}\n", "", "the surrogate needs output of 'model.py' 'gpp'"),
        ('[./model.py, "{parameters}", "{forcing}", "{output}"]', "./model.py", "`resimulate.command`: expected a list"),
        ("./model.py", "./modl.py", "modl.py' is not there"),
        ("  template: values.json\n", "", "template"),
    ],
)
def test_mistakes_of_the_block_are_one_line_before_the_fit(config, capsys, old, new, message):
    config.write_text(config.read_text().replace(old, new))
    assert fit(config, "--trust", config.parent / "model.py") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (config.parent / "logs").exists()
