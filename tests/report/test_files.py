"""Optional files of a run's folder are read as they stand, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from lit_invert.errors import ResultsError
from lit_invert.results import read_run
from tests.report.files import NAMES, add_uncertainty
from tests.runs import DAYS, make_site, write_run

OPTIONAL = [
    "posterior", "posterior_samples", "posterior_correlation", "bands", "uncertainty", "profiles", "starts", "sensitivity",
]  # fmt: skip


def test_the_weather_that_drove_a_run_is_in_its_folder(tmp_path):
    run = read_run(write_run(tmp_path)[0])
    assert list(run.forcing) == ["date", "dswrf"]
    np.testing.assert_array_equal(run.forcing["date"].to_numpy(), make_site()[0].dates)
    assert list(run.metrics["drivers"]) == ["dswrf"]


def test_a_run_without_further_files_has_none(tmp_path):
    run = read_run(write_run(tmp_path)[0])
    assert [getattr(run, name) for name in OPTIONAL] == [None] * len(OPTIONAL)


def test_a_parameter_named_na_keeps_its_name_in_every_table(tmp_path):
    folder, _ = write_run(tmp_path)
    add_uncertainty(folder)
    run = read_run(folder)
    assert list(run.posterior["name"]) == list(run.posterior_correlation.index) == list(run.posterior_samples) == NAMES
    assert run.posterior["traded_with"].tolist() == ["", "pmax", "", ""]
    assert np.isnan(run.posterior.loc[3, "variance_ratio"])
    assert "NA" in set(run.sensitivity["parameter"])
    assert len(run.bands) == DAYS
    assert run.bands["date"].equals(run.fluxes["date"])


def test_a_damaged_file_is_named(tmp_path):
    folder, _ = write_run(tmp_path)
    (folder / "uncertainty.json").write_text("{")
    (folder / "starts.csv").write_text("")
    for name in ("uncertainty", "starts"):
        with pytest.raises(ResultsError, match=f"{name}.* is damaged"):
            getattr(read_run(folder), name)


def test_the_warm_up_is_what_no_year_counts(tmp_path):
    run = read_run(write_run(tmp_path)[0])
    assert run.warmup_days == DAYS - sum(year["days"] for year in run.metrics["annual_sums"].values())
