"""What a fit prints of its uncertainty: the intervals of what is determined, and four lines."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from lit_invert.cli.uncertainty import show_uncertainty

KNOWN = (
    "The data know 5 of 31 directions better than the prior: 196 days, as good as 45 independent ones "
    "(noise 1.16 gC m-2 d-1 and 47 % of the flux, correlating by 0.68 from day to day)."
)


def run(*classes, test=(52, 0.903), traded_with="", **summary):
    rows = [
        {"name": f"p{i}", "unit": "d-1", "class": kind, "p05": 1.0, "p50": 2.0, "p95": 3.0, "variance_ratio": 0.1 * (9 - i)}
        | {"sd_reduction_percent": 10.0 * i, "traded_with": traded_with if kind == "traded off" else ""}
        for i, kind in enumerate(classes, 1)
    ]
    n, share = test
    return SimpleNamespace(
        posterior=pd.DataFrame(rows),
        posterior_correlation=pd.DataFrame({"p2": [-0.62]}, index=["p1"]),
        uncertainty={
            "noise": {"nep": {"sigma": 1.16, "share": 0.47, "rho": 0.675, "n": 196, "n_eff": 45.1}},
            "conflict_expected": {"days": 1, "expected_days": 2.04, "n": 196},
            "misspecification": {"tests": [{"test": "memory", "verdict": "fail"}, {"test": "size", "verdict": "pass"}]},
        },
        metrics={
            "target": "nep",
            "uncertainty": {"rank": 5, "free": 31, "coverage": {"fit": {"n": 196, "share": 0.95}, "test": {"n": n, "share": share}}}
            | summary,
        },
    )


@pytest.fixture
def printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")

    def lines(shown):
        show_uncertainty(shown)
        return capsys.readouterr().out.splitlines()

    return lines


AGAINST = "1 day in conflict with the prior (2.0 by chance); 1 of 2 tests of misspecification failed (memory)."


def test_four_lines_say_what_the_data_know(printed):
    lines = printed(run("traded off", "at bound", "prior only", "prior only", "fixed", traded_with="p2"))
    assert lines == [
        KNOWN,
        "Parameters: 1 traded off (p1 with p2 (-0.62)), 1 at bound (p2), 2 prior only, 1 fixed.",
        "NEP inside the 90 % band: 95 % of fit, 90 % of test days.",
        AGAINST,
    ]


def test_determined_parameters_have_intervals_the_best_known_first(printed):
    lines = printed(run("determined", "determined", "prior only"))
    assert lines[0].strip() == "parameters that the data determined"
    rows = [line.replace("│", " ").split() for line in lines if "d-1" in line and "│" in line]
    assert rows == [["p2", "d-1", "1", "2", "3", "20", "%"], ["p1", "d-1", "1", "2", "3", "10", "%"]]
    assert lines[-3] == "Parameters: 2 determined, 1 prior only."


def test_at_most_twelve_intervals_are_shown_and_all_are_counted(printed):
    lines = printed(run(*["determined"] * 14))
    assert sum("│" in line and "d-1" in line for line in lines) == 12
    assert lines[-3] == "Parameters: 14 determined."


def test_one_direction_one_day_and_no_test_days(printed):
    shown = run("fixed", "prior only", test=(0, float("nan")), rank=1, free=1)
    shown.uncertainty["noise"]["nep"] |= {"n": 1, "n_eff": 1.0}
    lines = printed(shown)
    assert lines[0].startswith("The data know 1 of 1 direction better than the prior: 1 day, as good as 1 independent one (noise")
    assert lines[1:] == ["Parameters: 1 prior only, 1 fixed.", "NEP inside the 90 % band: 95 % of fit days.", AGAINST]


def test_without_a_free_parameter_there_is_nothing_to_know(printed):
    lines = printed(run("fixed", "fixed", rank=0, free=0))
    assert lines[0].startswith("The data know 0 of 0 directions")
    assert lines[1] == "Parameters: 2 fixed."


@pytest.mark.parametrize("missing", ["posterior", "uncertainty", "metrics"])
def test_a_run_without_an_analysis_prints_nothing(printed, missing):
    shown = run("determined")
    setattr(shown, missing, {"target": "nep"} if missing == "metrics" else None)
    assert printed(shown) == []
