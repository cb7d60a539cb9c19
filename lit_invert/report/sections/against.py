"""What speaks against the fit: days that the prior does not reach, and residuals that are not what noise is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...results import Run
from ..html import folded, note, number, records, table
from ..style import flux_name

_SHOWN = 12
#: A test that fails not, but has a p-value below this before the correction for many, is close to failing.
_CLOSE = 0.05
#: What each test asks of the whitened residuals, or of the record.
_QUESTIONS = {
    "memory": "Does a day's residual tell nothing of the next days' ones, beyond the noise's own correlation?",
    "normality": "Are the residuals spread like a normal distribution, without skew or heavy tails?",
    "season": "Does no month have a mean residual of its own?",
    "outliers": "Are no more residuals beyond four standard deviations than noise has? Value: how many.",
    "days in conflict with the prior": "Are days that the prior does not reach as rare as in records that the prior makes itself? "
    "Value: their share.",
    "distance from the prior": "Is the whole record as near to the prior's simulations as records that the prior makes itself? "
    "Value: 1 where it is.",
}


def conflict(run: Run) -> str:
    """Return the days that no draw of the prior reaches."""
    known = run.uncertainty
    if known is None or "conflict" not in known:
        return ""
    days = known["conflict"]
    said = "These days lie beyond 2.6 sd of the prior predictive." if days else "No day lies beyond 2.6 sd of the prior predictive."
    expected = known.get("conflict_expected")
    if expected:
        usual = number(expected["expected_days"])
        said += f" {expected['days']} of {expected['n']} days; records made by the prior itself have {usual} on average."
    listed = records(days) if len(days) <= _SHOWN else records(days[:_SHOWN]) + folded(f"All {len(days)}", records(days))
    return f"<h3>Prior-data conflict</h3><p>{said}</p>{listed}"


def misspecification(run: Run) -> str:
    """Return what each test asks of the residuals or the record, and what it found."""
    known = (run.uncertainty or {}).get("misspecification") or {}
    rows = [
        [
            flux_name(test["flux"]),
            test["test"],
            _question(test["test"]),
            number(test["value"]),
            *map(_chance, (test["p"], test["p_corrected"])),
            verdict_of(test),
        ]
        for test in known.get("tests", [])
    ]
    if not rows:
        return ""
    return (
        "<h3>Misspecification</h3>"
        + note(known["verdict"])
        + table(["flux", "test", "what it asks", "value", "p", "p, Holm", "verdict"], rows, text=(0, 1, 2, 6))
        + note(
            "p: how rarely chance alone leads as far. A test fails where p, corrected for the number of tests (Holm), is below "
            "0.05, and is close where p alone is. At the posterior's mode, in residuals over the noise, without its correlation."
        )
    )


def _question(test: str) -> str:
    driver = test.removeprefix("follows ")
    if driver != test:
        return f"Do residuals neither rise nor fall with {driver}? Value: their rank correlation."
    return _QUESTIONS.get(test, "")


def _chance(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def verdict_of(test: Mapping[str, Any]) -> str:
    """Return the verdict of a test in a word or two.

    Example:
        >>> verdict_of({"p": 0.0009, "verdict": "fail"}), verdict_of({"p": 0.049, "verdict": "pass"})
        ('fails', 'close')
        >>> verdict_of({"p": 0.05, "verdict": "pass"}), verdict_of({"p": None, "verdict": "not tested"})
        ('passes', 'not tested')
    """
    if test["verdict"] != "pass":
        return "fails" if test["verdict"] == "fail" else str(test["verdict"])
    return "close" if test["p"] < _CLOSE else "passes"
