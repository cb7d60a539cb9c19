"""Runs side by side: what differs, and nothing that is written over by mistake."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from lit_invert.errors import ResultsError
from lit_invert.report import write_comparison
from lit_invert.report.comparison import comparison_path, run_names, score_rows
from lit_invert.report.draw.comparison import overlay_figure, shifts_figure
from lit_invert.results import read_run
from tests.report.files import add_uncertainty
from tests.runs import make_result, write_run


@pytest.fixture
def runs(tmp_path):
    folders = [write_run(tmp_path / "logs")[0], write_run(tmp_path / "logs", make_result(shift_optimum=0.25))[0]]
    (folders[0] / "config.yaml").write_text("name: a\ninversion:\n  lr: 0.1\n  lambda_prior: <b>\nseed: 1\n")
    (folders[1] / "config.yaml").write_text("name: b\ninversion:\n  lr: 0.2\n  lambda_prior: <b>\nseed: 1\n")
    add_uncertainty(folders[1])
    return [read_run(folder) for folder in folders]


def test_the_page_shows_settings_and_scores_that_differ(runs, tmp_path):
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    settings = text.split("Settings that differ</h2>")[1].split("</section>")[0]
    assert re.findall(r"<td class=text>(.*?)</td>", settings) == ["inversion.lr", "0.1", "0.2"]
    assert "known/version_0" in text
    assert "12.6 to 15.4" in text  # 5-95 % of pmax, of the second alone
    assert not re.search(r"<script|<link|https?://|<b>", text)


def test_scores_come_in_the_order_of_the_runs(runs):
    rows = score_rows(runs)
    assert [row[:2] for row in rows[:2]] == [["test", "0"], ["test", "1"]]
    assert [row[4] for row in rows[:2]] == ["0.5", "0.25"]


def test_a_comparison_is_made_again_but_nothing_else_is_overwritten(runs, tmp_path):
    path = comparison_path(runs)
    assert path == tmp_path / "logs" / "compare_known-0_known-1.html"
    assert write_comparison(runs, path) == write_comparison(runs, path)
    other = tmp_path / "mine.html"
    other.write_text("<p>mine</p>")
    with pytest.raises(ResultsError, match="is no comparison"):
        write_comparison(runs, other)
    assert other.read_text() == "<p>mine</p>"


def test_runs_of_other_targets_or_twice_the_same_are_refused(runs, tmp_path):
    with pytest.raises(ResultsError, match="two or more different runs"):
        write_comparison([runs[0], runs[0]], tmp_path / "page.html")
    metrics = json.loads((runs[1].folder / "metrics.json").read_text())
    (runs[1].folder / "metrics.json").write_text(json.dumps(metrics | {"target": "gpp"}))
    with pytest.raises(ResultsError, match=r"different targets: .* of nep, .* of gpp"):
        write_comparison([runs[0], read_run(runs[1].folder)], tmp_path / "page.html")


def test_other_sites_are_said(runs, tmp_path):
    other = read_run(write_run(tmp_path / "there", site="<Other>")[0])
    text = write_comparison([runs[0], other], tmp_path / "page.html").read_text()
    assert "These runs are of different sites: Known, &lt;Other&gt;." in text


def test_names_tell_runs_of_the_same_name_apart(runs, tmp_path):
    other = read_run(write_run(tmp_path / "there")[0])
    assert run_names([runs[0], other]) == ["logs/known/version_0", "there/known/version_0"]


def test_the_figures_show_every_run(runs):
    axis = overlay_figure([run.fluxes for run in runs], ["a", "b"], ["Known", "Known"], "nep").axes[0]
    drawn = {line.get_label(): line for line in axis.get_lines()}
    np.testing.assert_allclose(drawn["a"].get_ydata() - drawn["b"].get_ydata(), 0.25, rtol=1e-7)
    shifts = shifts_figure([run.parameters for run in runs], ["a", "b"]).axes[0]
    by_name = {line.get_label(): line for line in shifts.get_lines()}
    np.testing.assert_allclose(by_name["b"].get_ydata(), runs[1].parameters["shift_in_sd"])
