"""What the flow makes of what checks find."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from lit_invert_invariance.flow import Finding, choose_checks, conclude, decide, pool_retention, run_checks
from lit_invert_invariance.settings import InvarianceSettings

from lit_invert import Check, RunInfo, Verdict
from lit_invert.errors import ConfigError, PluginError
from lit_invert.testing import toy_surrogate

NAMES = ("retention", "net_expectancy", "spearman", "onnx", "nan")


def finding(check, outcome="pass", value=0.0, site="A", **details):
    return Finding(site, Verdict(check, outcome, f"{check} was looked at.", value, 1.0, details), 0.1)


def all_good(**values):
    return [finding(name, value=values.get(name, 0.95)) for name in NAMES]


def check(name, when="validation", verdict="pass"):
    return Check(name, lambda problem, site: None if verdict is None else Verdict(name, verdict, "looked"), when)


def test_the_checks_of_the_flow_come_first_and_those_of_fits_not_at_all():
    checks = {name: check(name) for name in ("zeal", *sorted(NAMES))} | {"prior": check("prior", "fit")}
    assert [c.name for c in choose_checks(checks, InvarianceSettings())] == [*NAMES, "zeal"]
    assert "onnx" not in [c.name for c in choose_checks(checks, InvarianceSettings(skip=["onnx"]))]


def test_leaving_out_what_is_not_there_is_a_mistake():
    with pytest.raises(ConfigError, match=r"`invariance.skip`: 'onx' .*Did you mean 'onnx'"):
        choose_checks({"onnx": check("onnx")}, InvarianceSettings(skip=["onx"]))


def test_every_check_is_asked_of_every_site_also_after_a_failure():
    checks = {"nan": check("nan", verdict="fail"), "silent": check("silent", verdict=None), "onnx": check("onnx")}
    sites = [SimpleNamespace(problem=None, site=SimpleNamespace(name=name)) for name in ("A", "B")]
    shown = []
    found = run_checks(sites, choose_checks(checks, InvarianceSettings()), RunInfo("check-surrogate", "toy", None, 0), shown.append)
    assert [(f.site, f.verdict.check) for f in found] == [("A", "onnx"), ("A", "nan"), ("B", "onnx"), ("B", "nan")]
    assert shown == found


def test_a_check_of_another_plugin_that_raises_fails_alone():
    def raises(problem, site):
        raise PluginError("other", "other 1.0", "check 'odd'", "ValueError: boom.")

    sites = [SimpleNamespace(problem=None, site=SimpleNamespace(name="A"))]
    found = run_checks(sites, [Check("odd", raises, "validation"), check("nan")], RunInfo("check-surrogate", "toy", None, 0), str)
    assert [(f.verdict.check, f.verdict.outcome) for f in found] == [("odd", "fail"), ("nan", "pass")]
    assert "boom" in found[0].verdict.message


def test_all_passing_is_confirmed():
    decision = decide(all_good())
    assert (decision["confirmed"], decision["sentence"]) == (True, "Scale invariance confirmed.")


def test_advice_does_not_stop_and_failures_are_named_once():
    advised = decide([*all_good(), finding("redundancy", "advice")])
    assert (advised["passed"], advised["advice"]) == (True, ["redundancy"])
    failed = decide([*all_good(), finding("monotone", "fail", site="A"), finding("monotone", "fail", site="B")])
    assert (failed["passed"], failed["failed"]) == (False, ["monotone"])
    assert failed["sentence"] == "The design needs another look: monotone failed."


def test_what_was_not_asked_is_not_confirmed():
    decision = decide(all_good()[:-1], ["nan"])
    assert decision["sentence"] == "Nothing failed, but scale invariance is not confirmed: nan not measured."
    assert (decision["passed"], decision["confirmed"]) == (True, False)


def test_what_could_not_be_measured_is_not_confirmed():
    unknown = finding("retention", "advice", value=None, samples=0, retained=0)
    assert decide([unknown, *all_good()[1:]])["missing"] == ["retention"]
    assert decide([finding("onnx", "fail", value=None), *all_good()[:3], finding("nan")])["missing"] == []


def retention(site, retained, samples, outcome):
    return finding("retention", outcome, retained / samples, site, samples=samples, retained=retained)


def test_a_number_that_stands_for_less_than_it_should_is_not_confirmed():
    part = finding("retention", "advice", 1.0, samples=12, retained=12, unmeasured="estimates")
    assert decide([part, *all_good()[1:]])["missing"] == ["retention"]


def test_sites_with_few_samples_are_confirmed_by_all_of_them_together():
    few = [finding("retention", "advice", 1.0, site, samples=4, retained=4, unmeasured="samples") for site in ("A", "B")]
    assert decide([*pool_retention(few), *all_good()[1:]])["confirmed"]


def test_a_question_that_does_not_arise_is_not_missing():
    assert decide([f for f in all_good() if f.verdict.check != "onnx"])["confirmed"]


def test_sites_without_a_sample_are_not_measured():
    parts = [finding("retention", "advice", None, site, samples=0, retained=0) for site in ("A", "B")]
    assert pool_retention(parts) == parts
    assert decide([*parts, *all_good()[1:]])["missing"] == ["retention"]


def test_samples_of_all_sites_decide_together():
    parts = [retention("A", 9, 12, "fail"), retention("B", 88, 88, "advice")]
    pooled, *own = pool_retention(parts)
    assert (pooled.site, pooled.verdict.value, pooled.verdict.outcome) == ("", 0.97, "advice")
    assert [f.verdict.outcome for f in own] == ["advice", "advice"]
    assert decide([*pool_retention(parts), *all_good()[1:]])["passed"]
    fewer = [retention("A", 9, 12, "fail"), retention("B", 84, 88, "pass")]
    assert decide([*pool_retention(fewer), *all_good()[1:]])["failed"] == ["retention"]


def test_one_site_decides_alone():
    alone = [retention("A", 11, 12, "fail")]
    assert pool_retention(alone) == alone


def test_the_five_numbers_are_the_worst_of_the_sites_and_nan_where_not_asked():
    found = [
        retention("A", 12, 12, "advice"),
        retention("B", 84, 88, "pass"),
        *(finding(name, value=value, site=site) for name, value, site in (("spearman", 0.99, "A"), ("spearman", 0.7, "B"))),
        *(finding("onnx", value=value, site=site) for value, site in ((0.1, "A"), (0.2, "B"))),
        finding("nan", value=None),
    ]
    inputs = SimpleNamespace(surrogate=toy_surrogate())
    validation = conclude(found, inputs, InvarianceSettings())
    numbers = validation["numbers"]
    assert (numbers["retention"], numbers["spearman_rho"], numbers["onnx_degradation"]) == (0.96, 0.7, 0.2)
    assert math.isnan(numbers["nan_ratio"])
    assert math.isnan(numbers["net_exp_degradation"])
    assert validation["literal"] == {
        "retention_ok": True, "netexp_ok": False, "spearman_ok": False, "onnx_ok": True, "nan_ok": False, "all_passed": False,
    }  # fmt: skip
    assert validation["sites"] == ["A", "B"]
