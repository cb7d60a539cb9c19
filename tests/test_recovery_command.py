"""The commands recover and calibrate-posterior, on the toy fit: what they write, what they say, and what they refuse."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from lit_invert.cli import main, recovery
from lit_invert.posterior.certificate import UNIDENTIFIABLE
from lit_invert.report.certificate import certificate_page
from lit_invert.results import list_versions
from tests.toy_fit import write_toy_fit


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Return the config of a toy fit for which both commands ran, and what they printed."""
    folder = tmp_path_factory.mktemp("toy")
    config = str(write_toy_fit(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        codes = [main([name, "--config", config, "--twins", "8"]) for name in ("recover", "calibrate-posterior")]
    assert codes == [0, 0]
    return folder


def test_recover_writes_a_certificate(toy):
    folder = toy / "logs/toy/recovery/version_0"
    assert {path.name for path in folder.iterdir()} == {
        *("recovery.csv", "cases.csv", "recovery.json", "report.html", "truth.png", "status.json"),
    }
    table, summary = pd.read_csv(folder / "recovery.csv"), json.loads((folder / "recovery.json").read_text())
    assert list(table["name"]) == ["s1", "s2", "s3"]
    assert summary["twins"] == 8
    recovered = list(table.loc[table["verdict"] == "recoverable", "name"])
    assert recovered
    assert summary["sentence"].startswith(
        f"{len(recovered)} of 3 parameters are recoverable from NEP here: {', '.join(recovered)}."
    )
    assert [row["verdict"] for row in summary["parameters"]] == list(table["verdict"])
    assert summary["sentence"] in (folder / "report.html").read_text()
    assert json.loads((folder / "status.json").read_text()) == {"status": "finished", "message": summary["sentence"]}
    assert len(pd.read_csv(folder / "cases.csv")) == 24


def test_calibrate_posterior_writes_ranks_and_verdict(toy):
    folder = toy / "logs/toy/calibration/version_0"
    assert {path.name for path in folder.iterdir()} == {"ranks.csv", "calibration.json", "calibration.png", "status.json"}
    ranks, summary = pd.read_csv(folder / "ranks.csv"), json.loads((folder / "calibration.json").read_text())
    assert ranks.shape == (8, 6)
    assert ranks.to_numpy().min() >= 0
    assert ranks.to_numpy().max() <= summary["draws"] == 99
    assert summary["method"] == "laplace"
    assert [row["level"] for row in summary["coverage"]] == [0.1, 0.25, 0.5, 0.75, 0.9, 0.95]


def test_the_same_seed_gives_the_same_certificate_in_a_folder_of_its_own(toy, monkeypatch, capsys):
    monkeypatch.chdir(toy)
    assert main(["recover", "--config", "config.yaml", "--twins", "8", "--seed", "0"]) == 0
    printed = capsys.readouterr().out
    versions = list_versions(toy / "logs/toy/recovery")
    first, second = ((version / "recovery.csv").read_bytes() for version in versions)
    assert first == second
    assert "of 3 parameters are recoverable from NEP here" in printed


@pytest.mark.parametrize(
    ("command", "figure", "kind", "kept"),
    [
        ("recover", "truth_figure", "recovery", {"recovery.csv", "cases.csv", "recovery.json", "status.json"}),
        ("calibrate-posterior", "calibration_figure", "calibration", {"ranks.csv", "calibration.json", "status.json"}),
    ],
)
def test_a_figure_that_cannot_be_drawn_leaves_the_tables(tmp_path, monkeypatch, capsys, command, figure, kind, kept):
    def fails(*_):
        raise ValueError("no\nfont")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recovery, figure, fails)
    assert main([command, "--config", str(write_toy_fit(tmp_path)), "--twins", "2"]) == 2
    folder = tmp_path / "logs/toy" / kind / "version_0"
    assert {path.name for path in folder.iterdir()} == kept
    assert json.loads((folder / "status.json").read_text()) == {"status": "failed", "message": "ValueError: no font"}
    (line,) = capsys.readouterr().err.splitlines()
    assert "results are not complete (ValueError: no font)" in line


def test_the_page_escapes_names_and_begins_with_what_is_found():
    rows = [["a<b", "-", UNIDENTIFIABLE, 0.0, 0.9, 1.0, 0.9], ["worse", "-", "recoverable", 0.0, 0.5, 1.0, 0.9],
            ["best", "-", "recoverable", 0.0, 0.1, 1.0, 0.9]]  # fmt: skip
    table = pd.DataFrame(rows, columns=["name", "unit", "verdict", "bias", "rmse", "rmse_of_prior", "coverage_90"])
    page = certificate_page(SimpleNamespace(table=table, sentence="1 < 2 & so on"), "<script>", b"")
    assert "<script>" not in page
    assert "1 &lt; 2 &amp; so on" in page
    assert page.index("best") < page.index("worse") < page.index("a&lt;b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--twins", "1"], "`--twins` is 1, expected two or more."),
        (["--twins", "many"], "command line: argument --twins: invalid int value: 'many'."),
        (["--method", "guess"], "command line: argument --method: invalid choice: 'guess'"),
        (["--twin", "3"], "twin"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_trace(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    config = write_toy_fit(tmp_path)
    assert main(["calibrate-posterior", "--config", str(config), *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "logs").exists()


def test_a_catalogue_is_refused(tmp_path, capsys):
    config = write_toy_fit(tmp_path)
    (tmp_path / "sites.csv").write_text("site,path,latitude\nA,tower.csv,48\n")
    text = config.read_text().replace("  path: tower.csv\n  latitude: 48.0\n", "  sites: sites.csv\n")
    config.write_text(text)
    assert main(["recover", "--config", str(config)]) == 2
    assert "`lit-invert recover` is for one site, but `data.sites` names a catalogue." in capsys.readouterr().err
