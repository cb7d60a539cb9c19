"""A fit asks for a validation of its own surrogate, and shows it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from lit_invert_invariance.gate import check_validation
from lit_invert_invariance.settings import InvarianceSettings
from lit_invert_invariance.store import fingerprint, latest_validation, read_validation, write_validation

from lit_invert import RunInfo
from lit_invert.errors import ResultsError
from lit_invert.testing import toy_problem


@pytest.fixture
def problem():
    return toy_problem()


def validation_of(surrogate, passed=True, retention=0.95):
    sentence = "Scale invariance confirmed." if passed else "The design needs another look: nan failed."
    verdict = {"site": "A", "check": "nan", "outcome": "pass", "value": 0.0, "threshold": 0.05, "message": "fine", "details": {}}
    return {
        "created": "2026-11-22 10:00 UTC",
        "surrogate": {"name": "toy", "sha256": surrogate.sha256, "fingerprint": fingerprint(surrogate)},
        "decision": {"confirmed": passed, "sentence": sentence},
        "numbers": {"retention": retention},
        "literal": {"all_passed": passed},
        "settings": {"prediction_tolerance": 0.001},
        "verdicts": [verdict],
    }


def keep(runs, version, validation):
    folder = runs / "validation" / f"version_{version}"
    folder.mkdir(parents=True)
    write_validation(folder, validation)
    return folder


def ask(problem, runs, mode):
    return check_validation(problem, None, RunInfo("fit", "toy", None, 0, {"invariance": InvarianceSettings(mode)}, runs=runs))


@pytest.mark.parametrize(("mode", "outcome"), [("required", "fail"), ("warn", "advice")])
def test_a_fit_that_asks_misses_a_validation(problem, tmp_path, mode, outcome):
    verdict = ask(problem, tmp_path, mode)
    assert (verdict.outcome, "check-surrogate" in verdict.message) == (outcome, True)


def test_a_fit_that_does_not_ask_misses_none(problem, tmp_path):
    assert ask(problem, tmp_path, "off") is None
    assert ask(problem, None, "off") is None


@pytest.mark.parametrize("mode", ["required", "warn", "off"])
def test_a_passed_validation_stands_beside_the_numbers(problem, tmp_path, mode):
    keep(tmp_path, 0, validation_of(problem.surrogate))
    verdict = ask(problem, tmp_path, mode)
    assert (verdict.outcome, verdict.value, verdict.details["numbers"]) == ("pass", 0.95, {"retention": 0.95})
    assert "version_0" in verdict.message
    assert verdict.details["table"][0]["check"] == "nan"


@pytest.mark.parametrize(("mode", "outcome"), [("required", "fail"), ("warn", "advice"), ("off", "advice")])
def test_a_failed_validation_stops_only_who_requires_one(problem, tmp_path, mode, outcome):
    keep(tmp_path, 0, validation_of(problem.surrogate, passed=False))
    verdict = ask(problem, tmp_path, mode)
    assert (verdict.outcome, "nan failed" in verdict.message) == (outcome, True)


@pytest.mark.parametrize(("tolerance", "outcome"), [(0.001, "pass"), (0.0011, "fail")])
def test_a_validation_at_looser_tolerances_is_none(problem, tmp_path, tolerance, outcome):
    keep(tmp_path, 0, {**validation_of(problem.surrogate), "settings": {"prediction_tolerance": tolerance}})
    verdict = ask(problem, tmp_path, "required")
    assert (verdict.outcome, "prediction_tolerance was 0.0011" in verdict.message) == (outcome, outcome == "fail")


def test_the_newest_validation_counts_by_number(problem, tmp_path):
    for version, passed in ((9, False), (10, True)):
        keep(tmp_path, version, validation_of(problem.surrogate, passed))
    assert ask(problem, tmp_path, "required").outcome == "pass"


def test_the_validation_of_another_surrogate_is_none(problem, tmp_path):
    keep(tmp_path, 0, validation_of(problem.surrogate))
    other = toy_problem()
    other.surrogate.spec = replace(other.surrogate.spec, drivers=(replace(other.surrogate.spec.drivers[0], mean=7.0),) * 3)
    assert other.surrogate.sha256 == problem.surrogate.sha256
    assert ask(other, tmp_path, "required").outcome == "fail"


def test_a_validation_that_was_interrupted_does_not_count(problem, tmp_path):
    (tmp_path / "validation" / "version_1").mkdir(parents=True)
    keep(tmp_path, 0, validation_of(problem.surrogate))
    assert latest_validation(tmp_path).name == "version_0"


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"surrogate": {}})])
def test_a_damaged_validation_is_one_line(problem, tmp_path, text):
    _is_refused(problem, tmp_path, text)


@pytest.mark.parametrize("key", ["created", "surrogate", "decision", "numbers", "literal", "settings", "verdicts"])
def test_a_validation_without_a_part_is_damaged(problem, tmp_path, key):
    validation = validation_of(problem.surrogate)
    del validation[key]
    _is_refused(problem, tmp_path, json.dumps(validation))


def _is_refused(problem, tmp_path, text):
    folder = keep(tmp_path, 0, validation_of(problem.surrogate))
    (folder / "validation.json").write_text(text)
    with pytest.raises(ResultsError, match=r"validation\.json: is damaged.*check-surrogate"):
        ask(problem, tmp_path, "required")
    for mode in ("warn", "off"):  # a fit that does not need it goes on
        verdict = ask(problem, tmp_path, mode)
        assert (verdict.outcome, "is damaged" in verdict.message) == ("advice", True)


def test_a_validation_can_be_read_again(problem, tmp_path):
    validation = validation_of(problem.surrogate)
    assert read_validation(keep(tmp_path, 0, validation)) == validation
    with pytest.raises(ResultsError, match=r"has no `validation\.json`"):
        read_validation(tmp_path)
