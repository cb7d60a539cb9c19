"""The whole way: a surrogate is validated from a config, and later fits know it."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from lit_invert_invariance.command import check_surrogate
from lit_invert_invariance.settings import InvarianceSettings

from lit_invert.cli import main
from lit_invert.errors import ConfigError
from lit_invert.trust import Trust
from tests.toy_fit import write_toy_fit

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "configs" / "fr_hes.yaml"
pytestmark = pytest.mark.skipif(
    "invariance" not in entry_points(group="lit_invert").names, reason="the plugin is not installed, only on the path"
)
#: Checks that the toy need not pass to show how results are kept.
SKIPPED = "[retention,net_expectancy,onnx,monotone,extrapolation,gradient_soundness]"


@pytest.fixture
def config(tmp_path):
    return write_toy_fit(tmp_path)


def validate(config, *overrides):
    return main(["check-surrogate", "--config", str(config), "--invariance.skip", SKIPPED, *overrides])


def test_a_validation_leaves_a_folder_and_later_fits_show_it(config, tmp_path, capsys):
    assert main(["fit", "--config", str(config), "--invariance.validation", "required"]) == 2
    assert "has not been validated under this name; run `lit-invert check-surrogate" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
    assert validate(config) == 0
    shown = capsys.readouterr().out
    assert "spearman" in shown
    assert "retention_ok false" in shown
    folder = tmp_path / "logs" / "toy" / "validation" / "version_0"
    validation = json.loads((folder / "validation.json").read_text())
    assert {verdict["check"] for verdict in validation["verdicts"]} == {"spearman", "nan", "edges", "redundancy"}
    assert validation["decision"]["missing"] == ["retention", "net_expectancy", "onnx"]
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
    assert "lit-invert check-surrogate --config" in json.loads((folder / "provenance.json").read_text())["command"]
    assert "spearman" in (folder / "report.html").read_text()
    assert main(["fit", "--config", str(config), "--invariance.validation", "required"]) == 2
    assert "scale invariance is not confirmed: retention, net_expectancy, onnx not measured" in capsys.readouterr().err
    assert main(["fit", "--config", str(config), "--invariance.validation", "warn"]) == 0
    assert "validation: Nothing failed, but scale invariance is not confirmed" in capsys.readouterr().out


def test_a_config_of_a_validation_can_be_run_again_from_its_folder(config, tmp_path):
    assert validate(config) == 0
    again = tmp_path / "logs" / "toy" / "validation" / "version_0" / "config.yaml"
    assert validate(again) == 0
    assert (tmp_path / "logs" / "toy" / "validation" / "version_1" / "validation.json").is_file()


def test_another_spec_has_no_validation(config, tmp_path, capsys):
    assert validate(config) == 0
    spec = json.loads((tmp_path / "spec.json").read_text())
    spec["description"] = "another"
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert main(["fit", "--config", str(config), "--invariance.validation", "required"]) == 2
    assert "has not been validated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--invariance.skip", "[retentoin]"], r"'retentoin' is not a check of the validation\. Did you mean 'retention'"),
        (["--invariance.window_days", "0"], r"`invariance.window_days` is 0, expected 1 or more"),
        (["--data.path", "nowhere.csv"], r"nowhere\.csv"),
        (["--inversion.lr", "fast"], r"inversion\.lr"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(config, tmp_path, arguments, words):
    with pytest.raises(ConfigError, match=words) if "nowhere.csv" not in arguments else pytest.raises(Exception, match=words):
        check_surrogate(["--config", str(config), *arguments], Trust())
    assert not (tmp_path / "logs").exists()


def test_defaults_are_what_the_readme_says():
    settings, readme = InvarianceSettings(), (ROOT / "plugins" / "lit-invert-invariance" / "README.md").read_text()
    for key in ("prediction_tolerance", "estimate_tolerance", "mask_tolerance"):
        assert f"`{key}` ({getattr(settings, key):g})" in readme
    assert f"(`window_days`, {settings.window_days})" in readme


def fit_of(logs):
    return ["fit", "--config", str(SHIPPED), "--logs", str(logs), "--trainer.enable_progress_bar", "false"]


def test_the_shipped_surrogate_is_confirmed_and_its_fit_says_so(tmp_path, capsys):
    assert main(["check-surrogate", "--config", str(SHIPPED), "--logs", str(tmp_path)]) == 0
    folder = tmp_path / "fr_hes" / "validation" / "version_0"
    validation = json.loads((folder / "validation.json").read_text())
    assert validation["decision"]["sentence"] == "Scale invariance confirmed."
    assert validation["decision"]["missing"] == []
    assert {p.name for p in folder.iterdir()} >= {"onnx", "baseline.json", "figures", "report.html"}
    assert "Scale invariance confirmed." in capsys.readouterr().out
    assert main([*fit_of(tmp_path), "--invariance.validation", "required"]) == 0
    assert "Checks passed: balance, finite, forcing, gradient, prior, validation." in capsys.readouterr().out
    run = tmp_path / "fr_hes" / "version_0"
    (check,) = [c for c in json.loads((run / "metrics.json").read_text())["checks"] if c["check"] == "validation"]
    assert (check["outcome"], check["details"]["numbers"]) == ("pass", validation["numbers"])
    assert "Validation of the surrogate" in (run / "report.html").read_text()
