"""The page of a run over many sites, from tables of known numbers."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from lit_invert.errors import ResultsError
from lit_invert.report import write_sites_report
from lit_invert.report.draw.sites import information_figure, map_figure, shift_figure, spread_figure
from lit_invert.results import read_sites_run

SITES = ["007", "<b>", "NA", "lost"]
AFTER = (1, 1.5, 2.5)


@pytest.fixture
def folder(tmp_path):
    def table(name, rows):
        pd.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)

    done = {"status": "converged", "message": "", "fit_days": 100, "test_days": 20, "parameter_distance": 1.0, "at_bound": ""}
    rows = [
        {"site": site, **done, "plant_type": kind, "latitude": north, "longitude": east, "rmse_prior": 2.0, "rmse_optimum": after,
         "rmse_change_percent": 50 * after - 100}
        for site, kind, north, east, after in zip(SITES, ("DBF", "GRA", "GRA"), (50, 40, 30), (7, -99, 10), AFTER, strict=False)
    ]  # fmt: skip
    failed = {"site": "lost", "status": "failed", "message": "no <such> file", "plant_type": "GRA"}
    table("sites", [*rows, failed])
    shifts = {"pmax": [1.0, 2.0, 3.0], "NA": [0.0, 0.0, -0.1]}
    table("parameters", [{"site": s, "name": n, "shift_in_sd": v[i]} for i, s in enumerate(SITES[:3]) for n, v in shifts.items()])
    runs = {"prior": 2.0, "optimum": 1.0}
    table(
        "metrics",
        [{"site": s, "flux": "nep", "role": "test", "run": r, "n": 9, "rmse": v} for s in SITES[:3] for r, v in runs.items()],
    )
    table("unseen", [{"site": s, "group": "GRA", "prior": 2.0, "seen": 1.0, "unseen": u} for s, u in (("<b>", 1.5), ("NA", 2.5))])
    table("skill", [{"site": "NA", "role": "test", "n": 9, "prior": 2.0, "alone": 1.0, "together": 1.5, "loss": 0.5}])
    (tmp_path / "status.json").write_text(json.dumps({"status": "finished", "message": ""}))
    (tmp_path / "provenance.json").write_text(json.dumps({"seed": 0}))
    return tmp_path


def test_the_page_says_what_the_tables_say(folder):
    text = write_sites_report(folder).read_text()
    assert "NEP RMSE fell at 2 of 3 sites on days that the inversion never saw; the median changed by -25 %." in text
    assert "Better than the prior at 1 of 2 sites that the fit had not seen." in text
    assert "<td>-50 %</td><td>-25 %</td>" in text  # alone and together
    assert "no &lt;such&gt; file" in text
    assert "<td class=text>007</td>" in text
    assert "<td class=text>NA</td>" in text
    assert len(re.findall("src='data:image/png", text)) == 3
    assert not re.search(r"<script|<link|https?://|<b>|<such>", text)


def add_posterior(folder):
    """Add what the posterior says: of `007` nothing is determined, of `<b>` there is none, of `NA` one parameter is."""
    classes = ["prior only", "prior only", "", "", "determined", "traded off"]
    sites = pd.read_csv(folder / "sites.csv", dtype={"site": str}, keep_default_na=False)
    sites.assign(rank=[1, "", 3, ""], n_eff=[12.5, "", 40, ""], coverage_test=[0.8, "", 0.95, ""], determined="").to_csv(
        folder / "sites.csv", index=False
    )
    known = {"class": classes, "sd_reduction_percent": [10, 0, "", "", 60, 30]}
    parameters = pd.read_csv(folder / "parameters.csv", dtype=str, keep_default_na=False)
    parameters.assign(**known).to_csv(folder / "parameters.csv", index=False)


def test_sites_that_carry_information_come_first(folder):
    add_posterior(folder)
    text = write_sites_report(folder).read_text().split("Which sites carry the information")[1].split("<h2")[0]
    by_site, by_parameter = re.findall(r"<table.*?</table>", text, re.DOTALL)[:2]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in by_site.split("<tr>")[2:]]
    assert rows == [["NA", "1", "1", "0", "3", "40", "0.95"], ["007", "0", "0", "2", "1", "12.5", "0.8"]]
    assert re.findall(r"<td class=text>(.*?)</td>", by_parameter) == ["pmax", "NA"]


def test_the_map_of_information_leaves_a_site_without_a_posterior_blank(folder):
    add_posterior(folder)
    image = information_figure(read_sites_run(folder).parameters, ["NA", "<b>", "007"]).axes[0].images[0]
    np.testing.assert_array_equal(image.get_array().filled(np.nan), [[60, 30], [np.nan] * 2, [10, 0]])


def test_a_run_without_a_posterior_says_nothing_of_it(folder):
    assert "carry the information" not in write_sites_report(folder).read_text()


def test_the_map_has_every_site_at_its_place(folder):
    fitted = read_sites_run(folder).fitted
    points = map_figure(fitted).axes[0].collections[0]
    np.testing.assert_array_equal(points.get_offsets(), [[7, 50], [-99, 40], [10, 30]])
    np.testing.assert_array_equal(points.get_array(), [-50, -25, 25])


def test_a_catalogue_without_longitude_is_ordered_by_latitude(folder):
    axis = map_figure(read_sites_run(folder).fitted.assign(longitude=[7.0, np.nan, 10.0])).axes[0]
    np.testing.assert_array_equal(axis.collections[0].get_offsets(), [[3, 50], [2, 40], [1, 30]])
    assert "no longitude" in axis.get_xlabel()


def test_the_heat_map_has_a_row_a_site_in_the_order_asked_for(folder):
    image = shift_figure(read_sites_run(folder).parameters, ["NA", "007", "<b>"]).axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), [[3, -0.1], [1, 0], [2, 0]])


def test_spread_by_plant_type_starts_with_what_differs_most(folder):
    run = read_sites_run(folder)
    axis = spread_figure(run.parameters, run.fitted.set_index("site")["plant_type"]).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["pmax", "NA"]
    grass = next(c for c in axis.collections if c.get_label().startswith("GRA"))
    assert grass.get_segments()[0][0][1] == 2.5


def test_a_run_in_which_every_site_failed_has_a_page_without_figures(folder):
    sites = pd.read_csv(folder / "sites.csv", dtype={"site": str}).assign(status="failed", message="gone")
    sites.to_csv(folder / "sites.csv", index=False)
    (folder / "parameters.csv").write_text("")
    (folder / "metrics.csv").write_text("site,flux,role,run,n,rmse\n")
    for name in ("unseen", "skill"):
        (folder / f"{name}.csv").unlink()
    text = write_sites_report(folder).read_text()
    assert "None of 4 sites has a score." in text
    assert "<img" not in text


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"no `sites.csv`"):
        write_sites_report(tmp_path)
