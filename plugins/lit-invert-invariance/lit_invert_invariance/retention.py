"""Retention: the share of samples that stay where they were when nothing that matters changed.

A sample is a window of a site's record. It is retained when it stays within tolerance under every transform: other units, a factor
on all drivers, another precision, other starts, other days of the same window. Predictions of all windows and estimates of those
that are inverted have a share each, and the worse is the retention: many predictions that hold do not make up for estimates that do
not. Each transform also has a share of its own, so that a failure names its cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lit_invert import InversionProblem, RunInfo, Verdict
from lit_invert.sites import Site

from .estimates import try_estimates
from .points import prior_point
from .predictions import PRECISION, try_predictions
from .runs import MOST_WINDOWS
from .settings import InvarianceSettings, settings_of
from .simulation import simulate_counted
from .units import Rescaling, logs_of_zero, rescalings_of, summarize
from .validator import RETENTION_HIGH, RETENTION_LOW, judge_retention
from .windows import Trial, broken_transforms, count_retained, cut_windows

#: Fewest samples whose share says anything.
FEWEST_SAMPLES = 5


@dataclass(frozen=True)
class Part:
    """Predictions or estimates: how many samples were measured, and how many of them were retained."""

    what: str
    samples: int
    retained: int

    @property
    def share(self) -> float:
        """Share that was retained [-]; one where nothing was measured."""
        return self.retained / self.samples if self.samples else 1.0


def check_retention(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict:
    """Ask what share of a site's windows keep their prediction, and what share of those inverted their estimate; the worse decides.

    Estimates are asked of those changes of unit alone that predictions bear. Failure below 0.94, advice above 0.96, where estimates
    could not be measured, and where either part has fewer than five samples.
    """
    settings = settings_of(run)
    windows = cut_windows(problem.days[0], settings.window_days)
    predictions = try_predictions(problem, windows, settings)
    estimates, reason = try_estimates(problem, windows, _rescalings_to_invert(problem, predictions), settings)
    trials = [*predictions, *estimates]
    parts = count_parts(trials)
    worse = min(reversed(parts), key=lambda part: part.share)
    details = {
        "samples": worse.samples,
        "retained": worse.retained,
        **{part.what: {"samples": part.samples, "retained": part.retained} for part in parts},
        **_unmeasured(parts),
        "table": [trial.row() for trial in trials],
        "windows": _describe_windows(trials, windows, site),
        "notes": _notes(problem, trials, reason),
    }
    if not worse.samples:
        message = "no window of the record could be simulated with finite values, so retention is not known."
        return Verdict("retention", "advice", message, None, RETENTION_LOW, details)
    return _judge(worse, details, _message(problem, trials, parts, worse, reason))


def count_parts(trials: Sequence[Trial]) -> list[Part]:
    """Return predictions and then estimates, those of which a sample was measured; predictions alone where none was."""
    counted = []
    for what in ("prediction", "estimate"):
        own = [trial for trial in trials if trial.what == what]
        counted.append(Part(f"{what}s", *(count_retained(own) if own else (0, 0))))
    return [part for part in counted if part.samples] or counted[:1]


def _unmeasured(parts: Sequence[Part]) -> dict[str, str]:
    """Return the detail that keeps a pass from confirming anything, where there is one."""
    if len(parts) < 2:
        return {"unmeasured": "estimates"}
    return {"unmeasured": "samples"} if min(part.samples for part in parts) < FEWEST_SAMPLES else {}


def _judge(worse: Part, details: dict[str, Any], message: str) -> Verdict:
    """Judge the part that decides; what was not measured leaves advice at best."""
    outcome = judge_retention(worse.share)
    if outcome == "pass" and "unmeasured" in details:
        outcome = "advice"
    threshold = RETENTION_HIGH if worse.share > RETENTION_HIGH else RETENTION_LOW
    return Verdict("retention", outcome, f"{message}.", worse.share, threshold, details)


def _message(problem: InversionProblem, trials: Sequence[Trial], parts: Sequence[Part], worse: Part, reason: str) -> str:
    """Say what was retained, what broke it, and what was not measured."""
    counts = " and ".join(f"{part.retained} of {part.samples} {part.what}" for part in parts)
    said = [f"{counts} stay where they were under {len(trials)} transforms"]
    outcome, fewest = judge_retention(worse.share), min(part.samples for part in parts)
    if outcome == "fail":
        said.append(_cause(problem, [trial for trial in trials if f"{trial.what}s" == worse.what]))
    if len(parts) < 2:
        said.append(f"estimates not measured: {reason or 'no window determines a direction'}")
    elif fewest < FEWEST_SAMPLES:
        said.append(f"{fewest} samples say little: lower `invariance.window_days`, or give a longer record")
    elif outcome == "advice":
        said.append("over-constrained: a lower lambda would do")
    return "; ".join(said)


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


def _notes(problem: InversionProblem, trials: Sequence[Trial], reason: str) -> list[str]:
    """Say what was not measured, and why."""
    simulated = simulate_counted(problem, prior_point(problem))
    unknown, inverted = int((~simulated.isfinite()).sum()), [trial.samples for trial in trials if trial.what == "estimate"]
    notes, logs = [], logs_of_zero(problem)
    if isinstance(problem.forcing, dict):
        notes.append("The forcing is a dict of windows, so its drivers keep their units.")
    if logs:
        notes.append(
            f"{', '.join(logs)}: zero on some days and taken by the logarithm, which no unit leaves alone, so the unit is kept."
        )
    if PRECISION not in {trial.transform for trial in trials}:
        notes.append("The network was recorded for one precision and cannot be run in the other.")
    if unknown:
        notes.append(f"{unknown} of {simulated.numel()} values at the prior are not finite and are left out.")
    if inverted:
        notes.append(
            f"{max(inverted)} of {len(trials[0].change)} windows were inverted: {MOST_WINDOWS} at most, spread over those with "
            "half of their days observed."
        )
    else:
        notes.append(f"No window was inverted: {reason}.")
    return notes
