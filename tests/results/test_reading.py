"""A run's folder opened again, and every way in which it can be the wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from lit_invert.errors import ResultsError
from lit_invert.results import InversionStatus, load_metrics, load_parameters, open_run_folder, read_run, write_status
from tests.runs import OPTIMUM, TABLE, make_result, write_run


def test_what_was_written_is_read(tmp_path):
    folder, metrics = write_run(tmp_path)
    run = read_run(folder)
    assert run.metrics["roles"]["test"]["nep"] == metrics["roles"]["test"]["nep"]
    assert run.outputs == ["gpp", "npp", "nep", "rh"]
    np.testing.assert_allclose(run.fluxes["nep_optimum"], make_result().simulated_optimum[:, 2], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(run.history["loss/total"], make_result().history["loss/total"], rtol=1e-8)
    assert run.provenance["command"] == "lit-invert fit"


def test_names_that_look_like_missing_values_survive(tmp_path):
    parameters = load_parameters(write_run(tmp_path)[0])
    assert tuple(parameters["name"]) == TABLE.names
    assert list(parameters["at_bound"]) == ["", "", "max", ""]
    np.testing.assert_allclose(parameters["optimum"], OPTIMUM.numpy(), rtol=1e-8)


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(ResultsError, match="no such folder"):
        read_run(tmp_path / "nowhere")


def test_the_folder_above_leads_to_the_newest_run(tmp_path):
    folder = write_run(tmp_path)[0]
    for _ in range(10):
        newest = open_run_folder(tmp_path, "known")
    with pytest.raises(ResultsError, match="Did you mean") as caught:
        read_run(folder.parent)
    assert str(newest) in str(caught.value)


def test_any_other_folder_is_not_a_run(tmp_path):
    with pytest.raises(ResultsError, match=r"is not the folder of a run.*Expected logs"):
        read_run(tmp_path)


def test_a_run_without_results_says_how_it_ended(tmp_path):
    folder = open_run_folder(tmp_path, "a")
    with pytest.raises(ResultsError, match="status is 'running'"):
        read_run(folder)
    write_status(folder, InversionStatus.FAILED, "no forcing")
    with pytest.raises(ResultsError, match="status is 'failed': no forcing"):
        read_run(folder)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_json_is_one_line(tmp_path, text):
    folder = write_run(tmp_path)[0]
    (folder / "metrics.json").write_text(text)
    with pytest.raises(ResultsError, match="is damaged, expected") as caught:
        load_metrics(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_or_damaged_table_is_named(tmp_path):
    folder = write_run(tmp_path)[0]
    (folder / "history.csv").unlink()
    with pytest.raises(ResultsError, match=r"has no `history.csv`"):
        _ = read_run(folder).history
    (folder / "fluxes.csv").write_text("")
    with pytest.raises(ResultsError, match=r"fluxes.csv: is damaged"):
        _ = read_run(folder).fluxes
