"""The whole validation: every check of it at every site, and what the decision flow makes of what they found.

The flow asks retention, the expected value, the rank correlation and the export, in this order; the share of values that are no
numbers and every other registered check stand beside them. Nothing is left unasked after a failure, so that one run names every
fault. Over-constrained retention, a low rank correlation and redundant drivers are advice: they do not stop anything.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from lit_invert import Check, Inputs, RunInfo, Verdict
from lit_invert.errors import ConfigError, PluginError, suggest

from .settings import InvarianceSettings
from .store import fingerprint
from .validator import RETENTION_HIGH, RETENTION_LOW, InvarianceValidator, judge_retention

#: The five numbers of the specification by the checks that measure them, in the order of the decision flow.
NUMBERS = {
    "retention": "retention",
    "net_expectancy": "net_exp_degradation",
    "spearman": "spearman_rho",
    "onnx": "onnx_degradation",
    "nan": "nan_ratio",
}


@dataclass(frozen=True)
class Finding:
    """What one check found at one site."""

    site: str
    verdict: Verdict
    seconds: float


Show = Callable[[Finding], None]


def run_checks(sites: Iterable[Inputs], checks: Sequence[Check], run: RunInfo, show: Show) -> list[Finding]:
    """Ask every check about every site.

    Args:
        sites: What a fit reads of each site.
        checks: From :func:`choose_checks`.
        run: The run, with the plugin's settings.
        show: Called with each finding as it comes.
    """
    findings = []
    for inputs in sites:
        for check in checks:
            start = time.perf_counter()
            verdict = _ask(check, inputs, run)
            if verdict is not None:
                findings.append(Finding(inputs.site.name, verdict, time.perf_counter() - start))
                show(findings[-1])
    return findings


def _ask(check: Check, inputs: Inputs, run: RunInfo) -> Verdict | None:
    """Ask a check; a plugin that fails at it fails its own question and no other."""
    try:
        return check.ask(inputs.problem, inputs.site, run)
    except PluginError as error:
        return Verdict(check.name, "fail", str(error))


def choose_checks(checks: Mapping[str, Check], settings: InvarianceSettings) -> list[Check]:
    """Return the checks of a validation, those of the decision flow first.

    Args:
        checks: Registered checks by name; those that are meant for fits are passed over.
        settings: They name what is left out.

    Raises:
        ConfigError: If the settings leave out a check that there is not.
    """
    known = {name: check for name, check in checks.items() if check.when == "validation"}
    for name in settings.skip:
        if name not in known:
            raise ConfigError(f"`invariance.skip`: {name!r} is not a check of the validation.{suggest(name, known)}")
    order = [*(name for name in NUMBERS if name in known), *(name for name in known if name not in NUMBERS)]
    return [known[name] for name in order if name not in settings.skip]


def conclude(findings: list[Finding], inputs: Inputs, settings: InvarianceSettings) -> dict[str, Any]:
    """Return the content of validation.json.

    Args:
        findings: Of all sites.
        inputs: What a fit reads of any of the sites; the surrogate is that of all.
        settings: Tolerances, stated before anything was measured.

    Returns:
        Plain values: the surrogate, the decision with what failed and what is advised, the five numbers with the specification's
        literal booleans, and every verdict.
    """
    findings = pool_retention(findings)
    numbers = {key: _worst(findings, check) for check, key in NUMBERS.items()}
    spec = inputs.surrogate.spec
    return {
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "surrogate": {"name": spec.name, "sha256": inputs.surrogate.sha256, "fingerprint": fingerprint(inputs.surrogate)},
        "sites": list(dict.fromkeys(finding.site for finding in findings if finding.site)),
        "decision": decide(findings, settings.skip),
        "numbers": numbers,
        "literal": InvarianceValidator().validate_all(**numbers),
        "settings": asdict(settings),
        "verdicts": [{"site": f.site, **asdict(f.verdict), "seconds": round(f.seconds, 2)} for f in findings],
    }


def decide(findings: list[Finding], skipped: Sequence[str] = ()) -> dict[str, Any]:
    """Return whether the surrogate passed, whether that confirms anything, and which checks failed, advise or are missing.

    A check of the flow is missing where it was left out or could not measure; one whose question does not arise is not.

    Example:
        >>> found = [Finding("", Verdict("nan", "fail", "many"), 0.1), Finding("", Verdict("onnx", "pass", "fine"), 0.1)]
        >>> decide(found)["sentence"]
        'The design needs another look: nan failed.'
    """
    named = {
        outcome: list(dict.fromkeys(f.verdict.check for f in findings if f.verdict.outcome == outcome))
        for outcome in ("fail", "advice")
    }
    pooled = {f.verdict.check for f in findings if not f.site}
    deciding = [f for f in findings if not f.site or f.verdict.check not in pooled]
    unknown = {f.verdict.check for f in deciding if _is_unmeasured(f.verdict)}
    missing = [check for check in NUMBERS if check in unknown.union(skipped)]
    passed = not named["fail"]
    sentence = "Scale invariance confirmed" if passed else f"The design needs another look: {', '.join(named['fail'])} failed"
    if passed and missing:
        sentence = f"Nothing failed, but scale invariance is not confirmed: {', '.join(missing)} not measured"
    return {
        "passed": passed,
        "confirmed": passed and not missing,
        "sentence": f"{sentence}.",
        "failed": named["fail"],
        "advice": named["advice"],
        "missing": missing,
    }


def _is_unmeasured(verdict: Verdict) -> bool:
    """Say whether a check that did not fail could not measure its number, or a part of what it stands for."""
    return verdict.outcome != "fail" and (verdict.value is None or "unmeasured" in verdict.details)


def pool_retention(findings: list[Finding]) -> list[Finding]:
    """Return the findings with one more on retention over the samples of all sites, where there are several; it alone decides."""
    parts = [finding for finding in findings if finding.verdict.check == "retention"]
    if len(parts) < 2:
        return findings
    samples, retained = (sum(part.verdict.details[key] for part in parts) for key in ("samples", "retained"))
    if not samples:
        return findings
    share = retained / samples
    message = f"{retained} of {samples} samples of {len(parts)} sites are retained."
    threshold = RETENTION_HIGH if share > RETENTION_HIGH else RETENTION_LOW
    pooled = Finding("", Verdict("retention", judge_retention(share), message, share, threshold), 0.0)
    return [pooled, *(_advising(finding) if finding in parts else finding for finding in findings)]


def _advising(finding: Finding) -> Finding:
    """Return a finding that does not decide: a site's own share is of few samples."""
    verdict = finding.verdict
    return replace(finding, verdict=replace(verdict, outcome="advice")) if verdict.outcome == "fail" else finding


def _worst(findings: list[Finding], check: str) -> float:
    """Return the number of a check: pooled where there is such a finding, else the worst of the sites; NaN where none is known."""
    found = [f for f in findings if f.verdict.check == check and f.verdict.value is not None]
    values = [f.verdict.value for f in found if not f.site] or [f.verdict.value for f in found]
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return math.nan
    return min(known) if check in ("retention", "spearman") else max(known)
