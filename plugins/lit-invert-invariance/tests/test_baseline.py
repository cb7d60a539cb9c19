"""What a validation keeps of the weather comes back as it was, or one line says why not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from lit_invert_invariance.baseline import build_baseline, load_baseline

from lit_invert.errors import ResultsError
from lit_invert.results import to_json
from lit_invert.testing import toy_forcing, toy_problem

DRIVERS = ("tmp_2m", "tmp10_soil", "dswrf")


def site(days=40):
    dates = np.datetime64("2001-02-20") + np.arange(days)
    return SimpleNamespace(dates=dates, forcing=toy_forcing(days)[0].double().numpy() / 3)


@pytest.fixture
def folder(tmp_path):
    kept = {"sites": {"A": build_baseline(toy_problem(), site())}, "numbers": {"retention": 1.0, "spearman_rho": float("nan")}}
    (tmp_path / "baseline.json").write_text(to_json(kept))
    return tmp_path


def test_a_baseline_comes_back_as_it_was(folder):
    baseline = load_baseline(folder, "A", DRIVERS)
    np.testing.assert_array_equal(baseline.dates, site().dates)
    np.testing.assert_array_equal(baseline.forcing, site().forcing)
    assert baseline.numbers == {"retention": 1.0, "spearman_rho": None}
    np.testing.assert_array_equal(load_baseline(folder, "A", DRIVERS[::-1]).forcing, site().forcing[:, ::-1])


def test_an_unknown_site_is_one_line(folder):
    with pytest.raises(ResultsError, match=r"did not see site 'B'.* Known: A"):
        load_baseline(folder, "B", DRIVERS)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ResultsError, match=r"has no `baseline.json`. Run `lit-invert check-surrogate` again"):
        load_baseline(tmp_path, "A", DRIVERS)


def damaged(**drivers):
    return json.dumps({"sites": {"A": {"first": "2001-01-01", "drivers": drivers}}, "numbers": {}})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"sites": {}}',
        '{"sites": 3, "numbers": {}}',
        '{"sites": [1], "numbers": {}}',
        '{"sites": {"A": {}}, "numbers": {}}',
        '{"sites": {"A": {}}, "numbers": [1]}',
        '{"sites": {"A": {}}, "numbers": {"retention": "high"}}',
        '{"sites": {"A": {}}, "numbers": {"retention": true}}',
        damaged(tmp_2m=[1.0], tmp10_soil=[1.0]),
        damaged(tmp_2m=[1.0], tmp10_soil=[1.0], dswrf=[1.0, 2.0]),
        damaged(tmp_2m=[1.0], tmp10_soil=[1.0], dswrf=[None]),
        damaged(tmp_2m=[1.0], tmp10_soil=[1.0], dswrf=["warm"]),
        damaged(tmp_2m=[], tmp10_soil=[], dswrf=[]),
        damaged(tmp_2m=1.0, tmp10_soil=1.0, dswrf=1.0),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(ResultsError, match=r"baseline\.json: is damaged.*Run `lit-invert check-surrogate` again") as caught:
        load_baseline(tmp_path, "A", DRIVERS)
    assert "\n" not in str(caught.value)
