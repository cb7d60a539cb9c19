"""`lit-invert report` and `lit-invert compare`, from the command line."""

from __future__ import annotations

import pytest

from lit_invert.cli import main
from tests.report.test_sites import folder as sites_folder  # noqa: F401
from tests.runs import make_result, write_run


def test_compare_prints_the_scores_and_says_where_the_page_is(tmp_path, capsys):
    first, _ = write_run(tmp_path)
    second, _ = write_run(tmp_path, make_result(shift_optimum=0.25))
    assert main(["compare", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "run 2: known/version_1" in out
    assert "-87.5 %" in out
    assert f"Comparison: {tmp_path / 'compare_known-0_known-1.html'}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "the following arguments are required: runs"),
        (["compare", "{run}", "{tmp}"], "is not the folder of a run"),
        (["compare", "{run}", "{run}"], "two or more different runs"),
        (["compare", "{run}", "{other}", "--out", "{tmp}/nowhere/page.html"], "does not exist. Make it first"),
        (["report", "{tmp}/nowhere"], "no such folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, arguments, message):
    places = {"run": write_run(tmp_path)[0], "other": write_run(tmp_path)[0], "tmp": tmp_path}
    assert main([argument.format(**places) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_report_takes_a_run_over_many_sites(sites_folder, capsys):  # noqa: F811
    assert main(["report", str(sites_folder)]) == 0
    assert f"Report: {sites_folder / 'report.html'}" in capsys.readouterr().out
    drawn = {path.name for path in (sites_folder / "figures").iterdir()}
    assert drawn == {f"{name}.{kind}" for name in ("map", "shifts", "spread") for kind in ("png", "pdf")}
