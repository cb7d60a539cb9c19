"""What a fit makes of a validation: it may ask for a passed one, and shows the one that there is beside its numbers."""

from __future__ import annotations

from typing import Any

from lit_invert import InversionProblem, RunInfo, Site, Verdict

from .settings import settings_of
from .store import fingerprint, latest_validation, read_validation
from .validator import RETENTION_LOW, Outcome

_COMMAND = "`lit-invert check-surrogate --config` with this config"


def check_validation(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict | None:
    """Ask whether the surrogate was validated and passed.

    With `invariance.validation: required` the fit fails without one that passed; with `warn` it is advised; with `off` a validation
    that there is is shown, and none is missed.
    """
    mode = settings_of(run).validation
    folder = latest_validation(run.runs, fingerprint(problem.surrogate))
    if folder is None:
        if mode == "off":
            return None
        message = f"this surrogate has not been validated under this name; run {_COMMAND}."
        return Verdict("validation", "fail" if mode == "required" else "advice", message)
    validation = read_validation(folder)
    decision, numbers = validation["decision"], validation["numbers"]
    outcome: Outcome = "pass" if decision["passed"] else "fail" if mode == "required" else "advice"
    message = f"{decision['sentence']} Validated {validation['created']}, {folder.name} of `validation`."
    return Verdict("validation", outcome, message, numbers["retention"], RETENTION_LOW, _summary(validation))


def _summary(validation: dict[str, Any]) -> dict[str, Any]:
    """Return what a result shows of the validation of its surrogate."""
    shown = ("site", "check", "outcome", "value", "threshold", "message")
    table = [{key: verdict[key] for key in shown} for verdict in validation["verdicts"]]
    return {**{key: validation[key] for key in ("created", "decision", "numbers", "literal")}, "table": table}
