"""Retention: the share of samples that stay where they were when nothing that matters changed.

A sample is a window of a site's record. It is retained when its prediction and, where it can be inverted, its estimate stay within
tolerance under every transform: other units, a factor on all drivers, another precision, other starts, other days of the same
window. Each transform also has a share of its own, so that a failure names its cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lit_invert import InversionProblem, RunInfo, Verdict
from lit_invert.sites import Site

from .estimates import MOST_WINDOWS, try_estimates
from .points import prior_point, simulate_scaled
from .predictions import PRECISION, try_predictions
from .settings import InvarianceSettings, settings_of
from .units import Rescaling, rescalings_of, summarize
from .validator import RETENTION_LOW, judge_retention
from .windows import Trial, broken_transforms, count_retained, cut_windows


def check_retention(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict:
    """Ask what share of a site's windows keep their prediction and their estimate under every transform.

    Estimates are asked of those changes of unit alone that predictions bear. Failure below 0.94, advice above 0.96.
    """
    settings = settings_of(run)
    windows = cut_windows(problem.days[0], settings.window_days)
    trials = try_predictions(problem, windows, settings)
    trials += try_estimates(problem, windows, _rescalings_to_invert(problem, trials), settings)
    samples, retained = count_retained(trials)
    details = {
        "samples": samples,
        "retained": retained,
        "table": [trial.row() for trial in trials],
        "windows": _describe_windows(trials, windows, site),
        "notes": _notes(problem, trials),
    }
    if not samples:
        message = "no window of the record could be simulated with finite values, so retention is not known."
        return Verdict("retention", "advice", message, None, RETENTION_LOW, details)
    share = retained / samples
    outcome = judge_retention(share)
    message = f"{retained} of {samples} windows stay where they were under {len(trials)} transforms"
    if outcome == "fail":
        message = f"{message}; {_cause(problem, trials)}"
    elif outcome == "advice":
        message = f"{message}; over-constrained: a lower lambda would do"
    return Verdict("retention", outcome, f"{message}.", share, RETENTION_LOW, details)


def prediction_retention(
    problem: InversionProblem, site: Site, settings: InvarianceSettings
) -> tuple[float | None, list[dict[str, Any]]]:
    """Return retention of predictions alone, which costs no inversion, and its table; None where nothing could be measured."""
    trials = try_predictions(problem, cut_windows(problem.days[0], settings.window_days), settings)
    samples, retained = count_retained(trials)
    return (retained / samples if samples else None), [trial.row() for trial in trials]


def _rescalings_to_invert(problem: InversionProblem, trials: Sequence[Trial]) -> list[Rescaling]:
    """Return few changes of unit, of those that predictions bear: where they do not, no inversion need tell."""
    broken = broken_transforms(trials)
    return summarize([rescaling for rescaling in rescalings_of(problem) if rescaling.name not in broken])


def _describe_windows(trials: Sequence[Trial], windows: Sequence[slice], site: Site) -> list[dict[str, Any]]:
    """Return for each window its first day, whether it is retained, and under which transforms it failed."""
    described = []
    for place, days in enumerate(windows):
        failed = list(dict.fromkeys(trial.transform for trial in trials if bool(trial.failed[place])))
        described.append({"first": str(site.dates[days.start]), "retained": not failed, "failed": failed})
    return described


def _cause(problem: InversionProblem, trials: Sequence[Trial]) -> str:
    """Name the transform that fewest samples bear, and what mends it where that is known."""
    worst = min((trial for trial in trials if trial.retained is not None), key=lambda trial: trial.retained or 0.0)
    row = worst.row()
    size = row["worst change"] if isinstance(row["worst change"], str) else f"{row['worst change']:.2g}"
    others = len(broken_transforms(trials) - {worst.transform})
    cause = (
        f"{worst.retained:.0%} keep their {worst.what} with {worst.transform!r} (largest change {size}, allowed {worst.tolerance:g}"
        + (f"; {others} others break it, too)" if others else ")")
    )
    rescaling = next((r for r in rescalings_of(problem) if r.name == worst.transform), None)
    if rescaling is None or not rescaling.drivers or worst.what == "estimate" or problem.surrogate.spec.forcing_scaled:
        return cause
    return (
        f"{cause}: the network takes {', '.join(rescaling.drivers)} as they come and cannot be told their unit. "
        "State `forcing_scaled: true` in its spec, with mean 0 and std 1 of each driver"
    )


def _notes(problem: InversionProblem, trials: Sequence[Trial]) -> list[str]:
    """Say what was not measured, and why."""
    simulated, tried = simulate_scaled(problem, prior_point(problem)), {trial.transform for trial in trials}
    unknown, inverted = int((~simulated.isfinite()).sum()), [trial.samples for trial in trials if trial.what == "estimate"]
    notes = []
    if isinstance(problem.forcing, dict):
        notes.append("The forcing is a dict of windows, so its drivers keep their units.")
    if PRECISION not in tried:
        notes.append("The network was recorded for one precision and cannot be run in the other.")
    if unknown:
        notes.append(f"{unknown} of {simulated.numel()} values at the prior are not finite and are left out.")
    if inverted:
        most = f"the first {MOST_WINDOWS} at most, with half of their days observed"
        notes.append(f"{max(inverted)} of {len(trials[0].change)} windows were inverted: {most}.")
    else:
        notes.append("No window was inverted: too few observed days, or values or derivatives at the prior that cannot be trusted.")
    return notes
