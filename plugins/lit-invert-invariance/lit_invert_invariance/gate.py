"""What a fit makes of a validation: it may ask for a passed one, and shows the one that there is beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lit_invert import InversionProblem, RunInfo, Site, Verdict
from lit_invert.errors import ResultsError

from .settings import InvarianceSettings, settings_of
from .store import fingerprint, latest_validation, read_validation
from .validator import RETENTION_LOW, Outcome

_COMMAND = "`lit-invert check-surrogate --config` with this config"


def check_validation(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict | None:
    """Ask whether the surrogate was validated, and what came of it.

    With `invariance.validation: required` the fit fails without a validation that confirms its surrogate; with `warn` it is
    advised; with `off` a validation that there is is shown, and none is missed.
    """
    mode = settings_of(run).validation
    try:
        folder = latest_validation(run.runs, fingerprint(problem.surrogate))
    except ResultsError as error:
        if mode == "required":
            raise
        return Verdict("validation", "advice", str(error))
    if folder is None:
        if mode == "off":
            return None
        message = f"this surrogate has not been validated under this name; run {_COMMAND}."
        return Verdict("validation", "fail" if mode == "required" else "advice", message)
    validation = read_validation(folder)
    decision, numbers = validation["decision"], validation["numbers"]
    loose = looser_tolerances(validation["settings"], settings_of(run))
    outcome: Outcome = "pass" if decision["confirmed"] and not loose else "fail" if mode == "required" else "advice"
    message = f"{decision['sentence']}{loose} Validated {validation['created']}, {folder.name} of `validation`."
    return Verdict("validation", outcome, message, numbers["retention"], RETENTION_LOW, _summary(validation))


def looser_tolerances(there: Mapping[str, Any], here: InvarianceSettings) -> str:
    """Say which tolerances of a validation were larger than those of this config; empty where none was.

    Example:
        >>> looser_tolerances({"prediction_tolerance": 0.5}, InvarianceSettings())
        ' But its prediction_tolerance was 0.5, this config asks for 0.001.'
    """
    keys = ("prediction_tolerance", "estimate_tolerance", "mask_tolerance")
    looser = [
        f"{k} was {there[k]:g}, this config asks for {getattr(here, k):g}" for k in keys if there.get(k, 0) > getattr(here, k)
    ]
    return f" But its {'; '.join(looser)}." if looser else ""


def _summary(validation: dict[str, Any]) -> dict[str, Any]:
    """Return what a result shows of the validation of its surrogate."""
    shown = ("site", "check", "outcome", "value", "threshold", "message")
    table = [{key: verdict[key] for key in shown} for verdict in validation["verdicts"]]
    return {**{key: validation[key] for key in ("created", "decision", "numbers", "literal")}, "table": table}
