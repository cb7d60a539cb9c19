"""A sound surrogate passes, and each broken one fails on the check that names its fault and on no other."""

from __future__ import annotations

from types import SimpleNamespace

import lit_invert_invariance
import pytest
from lit_invert_invariance.flow import choose_checks, run_checks
from lit_invert_invariance.settings import InvarianceSettings
from sound import CutsAGradient, ExportsWrongly, IgnoresUnits, LosesDays, Sound, TiresOfLight, sound_problem

from lit_invert import RunInfo


def failures(problem, site):
    checks = {check.name: check for check in lit_invert_invariance.register_checks()}
    inputs = SimpleNamespace(problem=problem, site=site)
    findings = run_checks(
        [inputs], choose_checks(checks, InvarianceSettings()), RunInfo("check-surrogate", "twin", None, 0), lambda finding: None
    )
    assert {finding.verdict.check for finding in findings} == {name for name, check in checks.items() if check.when == "validation"}
    return {finding.verdict.check: finding.verdict.message for finding in findings if finding.verdict.outcome == "fail"}


def test_a_sound_surrogate_fails_nothing():
    assert failures(*sound_problem(Sound())) == {}


@pytest.mark.parametrize(
    ("network", "spec", "check", "words"),
    [
        (IgnoresUnits, {"forcing_scaled": False}, "retention", "tmp_2m"),
        (LosesDays, {}, "nan", "not finite"),
        (TiresOfLight, {}, "monotone", "gpp does not fall with dswrf"),
        (ExportsWrongly, {}, "onnx", ""),
        (CutsAGradient, {}, "gradient_soundness", "light_use"),
    ],
)
def test_each_broken_surrogate_fails_on_its_own_check_alone(network, spec, check, words):
    failed = failures(*sound_problem(network(), **spec))
    assert list(failed) == [check]
    assert words in failed[check]
