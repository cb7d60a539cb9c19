"""The folder of a run: made once, written whole, the same bytes for the same numbers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from lit_invert.errors import ResultsError
from lit_invert.extensions import Verdict
from lit_invert.results import InversionStatus, open_run_folder, tabulate, write_results, write_status
from tests.runs import DAYS, OPTIMUM, SPEC, TABLE, make_result, make_site, write_run

FILES = {
    "config.yaml",
    "fluxes.csv",
    "forcing.csv",
    "history.csv",
    "metrics.json",
    "parameters.csv",
    "provenance.json",
    "status.json",
}


def test_versions_go_on_from_the_highest(tmp_path):
    assert open_run_folder(tmp_path, "a").name == "version_0"
    (tmp_path / "a" / "version_9").mkdir()
    (tmp_path / "a" / "version_old").mkdir()
    assert open_run_folder(tmp_path, "a").name == "version_10"


def test_runs_that_start_at_once_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: open_run_folder(tmp_path, "a"), range(24)))
    assert {f.name for f in folders} == {f"version_{n}" for n in range(24)}


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc"])
def test_a_name_that_is_not_one_folder_is_refused(tmp_path, name):
    with pytest.raises(ResultsError, match="expected a plain folder name"):
        open_run_folder(tmp_path, name)


def test_a_root_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(ResultsError, match="results folder cannot be made"):
        open_run_folder(tmp_path / "logs", "a")


def test_a_finished_run_has_all_its_files(tmp_path):
    folder, _ = write_run(tmp_path)
    assert {p.name for p in folder.iterdir()} == FILES
    assert json.loads((folder / "status.json").read_text()) == {
        "status": "step_limit",
        "message": "all 20 iterations were used",
    }
    assert (folder / "config.yaml").read_text() == "seed_everything: 7\n"


def test_the_test_days_are_opened_once_and_stored(tmp_path):
    folder = open_run_folder(tmp_path, "a")
    site, sealed = make_site()
    write_results(folder, tabulate(make_result(), site, sealed, SPEC), config_text="", provenance={})
    with pytest.raises(RuntimeError, match="opened before"):
        sealed.open()
    fluxes = pd.read_csv(folder / "fluxes.csv")
    assert fluxes["nep_observed"].notna().sum() == np.isin(site.roles, ["fit", "select", "test"]).sum()


def test_fluxes_stand_day_by_day(tmp_path):
    again = make_result().simulated_optimum + 0.25
    folder, _ = write_run(tmp_path, resimulated=again)
    fluxes = pd.read_csv(folder / "fluxes.csv", parse_dates=["date"])
    assert len(fluxes) == DAYS
    assert fluxes["date"].diff().dropna().eq(pd.Timedelta(days=1)).all()
    assert fluxes["nep_mask"].dtype == bool
    assert not fluxes["gpp_mask"].any()
    seen = fluxes[fluxes["nep_mask"]]
    np.testing.assert_allclose(seen["nep_prior"] - seen["nep_observed"], 2.0, atol=1e-8)
    np.testing.assert_allclose(seen["nep_optimum"] - seen["nep_observed"], 0.5, atol=1e-8)
    np.testing.assert_allclose(fluxes["nep_resimulated"] - fluxes["nep_optimum"], 0.25, atol=1e-8)
    assert set(seen["nep_sigma"]) == {0.5}


def test_the_same_result_is_the_same_bytes(tmp_path):
    first, second = write_run(tmp_path)[0], write_run(tmp_path)[0]
    for name in ("parameters.csv", "fluxes.csv", "metrics.json", "history.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_parameters_are_laid_out_before_and_after(tmp_path):
    folder, _ = write_run(tmp_path)
    table = pd.read_csv(folder / "parameters.csv", keep_default_na=False, index_col="name")
    assert list(table.index) == list(TABLE.names)
    np.testing.assert_allclose(table["optimum"], OPTIMUM.numpy(), rtol=1e-8)
    np.testing.assert_allclose(table["shift"], (OPTIMUM - TABLE.prior).numpy(), rtol=1e-7)
    # 2 / 2; log(e) / (0.002 / 0.01); 0.2 / 0.1; fixed.
    np.testing.assert_allclose(table["shift_in_sd"], [1.0, 5.0, 2.0, 0.0], atol=1e-8)
    assert list(table["at_bound"]) == ["", "", "max", ""]
    assert table.loc["share", "max"] == pytest.approx(OPTIMUM[3].item())


@pytest.mark.parametrize(("share", "at_bound"), [(0.1 + 1e-7, "min"), (0.1 + 1e-4, ""), (0.5 - 1e-7, "max")])
def test_at_a_bound_leaves_room_for_rounding_only(tmp_path, share, at_bound):
    optimum = OPTIMUM.clone()
    optimum[2] = share
    folder, metrics = write_run(tmp_path, make_result(optimum=optimum))
    table = pd.read_csv(folder / "parameters.csv", keep_default_na=False, index_col="name")
    assert table.loc["share", "at_bound"] == at_bound
    assert metrics["at_bound"] == ({"share": at_bound} if at_bound else {})


def test_nan_is_null_in_json(tmp_path):
    folder, metrics = write_run(tmp_path, test=False)
    assert np.isnan(metrics["roles"]["test"]["nep"]["optimum"]["rmse"])
    stored = json.loads((folder / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert stored["roles"]["test"]["nep"] == {
        "n": 0,
        "rmse_change_percent": None,
        "prior": dict.fromkeys(("rmse", "bias", "r", "nse", "kge")),
        "optimum": dict.fromkeys(("rmse", "bias", "r", "nse", "kge")),
    }


def test_checks_notes_and_provenance_are_kept(tmp_path):
    folder, metrics = write_run(tmp_path, verdicts=[Verdict("forcing", "advice", "warm days", 0.02, 0.01)])
    assert metrics["notes"] == ["Wind was guessed."]
    assert metrics["checks"][0]["message"] == "warm days"
    stored = json.loads((folder / "provenance.json").read_text())
    assert (stored["seed"], stored["sha256"], stored["plugins"]) == (7, {"weights": "ab"}, {"toy": "toy 1.0"})
    assert stored["versions"]["torch"].startswith("2.")
    assert str(tmp_path) not in (folder / "provenance.json").read_text()


def test_a_write_that_fails_leaves_the_run_unfinished(tmp_path):
    folder = open_run_folder(tmp_path, "a")
    (folder / "metrics.json").mkdir()
    site, sealed = make_site()
    with pytest.raises(ResultsError, match="results cannot be written"):
        write_results(folder, tabulate(make_result(), site, sealed, SPEC), config_text="", provenance={})
    assert json.loads((folder / "status.json").read_text())["status"] == "running"
    assert not list(folder.glob(".*"))


def test_a_failed_run_says_why(tmp_path):
    folder = open_run_folder(tmp_path, "a")
    write_status(folder, InversionStatus.FAILED, "surrogate not found")
    assert json.loads((folder / "status.json").read_text()) == {"status": "failed", "message": "surrogate not found"}
