"""Samples are windows: a change that a surrogate is told of leaves them be, and one that it cannot be told of fails by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lit_invert_invariance.predictions import PRECISION, try_predictions
from lit_invert_invariance.retention import check_retention, count_parts, prediction_retention
from lit_invert_invariance.settings import InvarianceSettings
from lit_invert_invariance.validator import RETENTION_HIGH, RETENTION_LOW
from lit_invert_invariance.windows import Trial, broken_transforms, count_retained, cut_windows, mask_windows, window_changes
from sound import IgnoresUnits, LosesDays, Sound, sound_problem
from torch import nn

from lit_invert import FrozenSurrogate, RunInfo
from lit_invert.parameters import ParameterSpace
from lit_invert.testing import toy_problem

NAN, INF = float("nan"), float("inf")


def check(problem, site, **settings):
    run = RunInfo("check-surrogate", "twin", None, 0, sections={"invariance": InvarianceSettings(**settings)})
    return check_retention(problem, site, run)


@pytest.fixture(scope="module")
def sound_verdict():
    return check(*sound_problem(Sound()))


class Tied(Sound):
    """Runs in float32 alone, as a recorded network may."""

    def forward(self, static, forcing):
        if forcing.dtype != torch.float32:
            raise RuntimeError("expected Float but found Double")
        return super().forward(static, forcing)


class NoNumbers(Sound):
    def forward(self, static, forcing):
        return super().forward(static, forcing) * torch.nan


class OfWindows(nn.Module):
    """Takes its forcing as a dict."""

    def forward(self, static, forcing):
        return forcing["air"].expand(-1, -1, 4) * (1 + 0.1 * static[:, :1, None])


@pytest.mark.parametrize(("days", "last"), [(64, slice(30, 60)), (75, slice(60, 75)), (74, slice(30, 60))])
def test_the_last_window_has_half_its_length_or_is_dropped(days, last):
    assert cut_windows(torch.ones(days, dtype=torch.bool), 30)[-1] == last


def test_windows_begin_after_the_warm_up():
    days = torch.ones(100, dtype=torch.bool)
    days[:40] = False
    assert cut_windows(days, 30) == [slice(40, 70), slice(70, 100)]


def test_masks_hold_the_days_of_the_windows():
    random = np.random.default_rng(0)
    days = torch.zeros(5, 100, dtype=torch.bool)
    for member, (first, last) in enumerate(np.sort(random.integers(0, 100, (4, 2)), axis=1)):  # the fifth has no day
        days[member, first : last + 1] = True
    masks = mask_windows(days, 20)
    for member, mask in zip(days, masks, strict=True):
        windows = [torch.arange(100)[window].tolist() for window in cut_windows(member, 20)]
        assert [window.nonzero().flatten().tolist() for window in mask.T if window.any()] == windows


def test_a_change_is_the_worst_rms_over_the_spread():
    reference = torch.zeros(1, 4, 2)
    other = torch.tensor([[[0.3, 0.0], [0.4, 0.0], [0.0, 2.0], [0.0, 0.0]]])
    spread = torch.tensor([[0.5, 4.0]], dtype=torch.float64)
    changes = window_changes(reference, other, spread, [slice(0, 2), slice(2, 4)])
    assert changes.tolist() == pytest.approx([(0.125**0.5) / 0.5, 2**0.5 / 4], rel=1e-6)


@pytest.mark.parametrize(
    ("reference", "other", "change"),
    [
        ([0.0, NAN, 0.0, 0.0], [1.0, 5.0, 1.0, 1.0], 1.0),  # a day that was not finite before
        ([0.0, 0.0, 0.0, 0.0], [1.0, NAN, 1.0, INF], 1.0),  # half of the days are left
        ([0.0, 0.0, 0.0, 0.0], [1.0, NAN, NAN, NAN], INF),
        ([NAN, NAN, NAN, NAN], [1.0, 1.0, 1.0, 1.0], NAN),
    ],
)
def test_days_that_are_not_finite_are_left_out(reference, other, change):
    values = (torch.tensor(side)[None, :, None] for side in (reference, other))
    assert window_changes(*values, torch.ones(1, 1), [slice(0, 4)]).tolist() == pytest.approx([change], nan_ok=True)


def test_the_tolerance_itself_is_allowed():
    trial = Trial("K as degC", "prediction", torch.tensor([0.1, 0.1 + 1e-9, NAN, INF], dtype=torch.float64), 0.1)
    assert trial.failed.tolist() == [False, True, False, True]
    assert (trial.samples, trial.retained) == (3, pytest.approx(1 / 3))
    assert trial.row()["worst change"] == "not finite"


def test_a_sample_fails_once_however_many_transforms_it_fails():
    trials = [
        Trial(name, "prediction", torch.tensor(change), 1.0) for name, change in (("a", [0.0, 2.0, 2.0]), ("b", [2.0, 2.0, NAN]))
    ]
    assert count_retained(trials) == (3, 0)


@pytest.mark.parametrize(("failing", "broken"), [(6, set()), (7, {"a"})])
def test_a_transform_is_broken_below_the_threshold_of_retention(failing, broken):
    change = torch.zeros(100)
    change[:failing] = 1.0
    assert broken_transforms([Trial("a", "prediction", change, 0.5)]) == broken


def test_a_sound_surrogate_is_retained_under_every_transform(sound_verdict):
    verdict = sound_verdict
    assert (verdict.value, verdict.outcome, verdict.threshold) == (1.0, "advice", RETENTION_HIGH)
    assert "over-constrained" in verdict.message
    table = {(row["what"], row["transform"]): row for row in verdict.details["table"]}
    assert {row["retained"] for row in table.values()} == {1.0}
    assert ("prediction", PRECISION) in table
    assert [name for what, name in table if what == "estimate"] == [
        "drivers in other units",
        "drivers x 10,000",
        "fluxes as umol m-2 s-1",
        "starts",
        "resampled mask",
    ]
    windows = verdict.details["windows"]
    assert (len(windows), windows[1]) == (12, {"first": "2015-01-31", "retained": True, "failed": []})


def test_a_site_with_a_prior_of_its_own_is_asked_likewise(sound_verdict):
    problem, site = sound_problem(Sound())
    problem.space = ParameterSpace(problem.space.table, problem.space.transform, prior=problem.space.prior[None])
    verdict = check(problem, site)
    assert (verdict.value, len(verdict.details["table"])) == (1.0, len(sound_verdict.details["table"]))


def test_a_network_that_cannot_be_told_a_unit_fails_by_the_name_of_its_drivers():
    problem, site = sound_problem(IgnoresUnits(), forcing_scaled=False)
    verdict = check(problem, site)
    assert (verdict.outcome, verdict.value) == ("fail", 0.0)
    for words in ("'K as degC'", "tmp_2m, tmp10_soil", "forcing_scaled: true"):
        assert words in verdict.message
    failed = set(verdict.details["windows"][0]["failed"])
    assert failed == {"K as degC", "W m-2 as MJ m-2 d-1", "ppm as mol mol-1", "drivers x 100", "drivers x 10,000"}
    inverted = {row["transform"] for row in verdict.details["table"] if row["what"] == "estimate"}
    assert not inverted & {"drivers in other units", "drivers x 10,000"}


def test_the_remedy_mends_it():
    plain = IgnoresUnits()
    drivers = tuple(replace(v, mean=0.0, std=1.0) for v in sound_problem()[0].surrogate.spec.drivers)
    problem, site = sound_problem(plain)
    spec = replace(problem.surrogate.spec, drivers=drivers)
    share, _ = prediction_retention(problem.variant(surrogate=FrozenSurrogate(plain, spec)), site, InvarianceSettings())
    assert share == 1.0


@pytest.mark.parametrize(("factor", "is_retained"), [(0.99, False), (1.01, True)])
def test_the_tolerance_of_predictions_decides(factor, is_retained):
    problem, site = sound_problem(IgnoresUnits(), forcing_scaled=False)
    settings = InvarianceSettings()
    trials = try_predictions(problem, cut_windows(problem.days[0], 30), settings)
    kelvin = next(trial for trial in trials if trial.transform == "K as degC")
    easy = replace(settings, prediction_tolerance=factor * kelvin.worst)
    again = next(row for row in prediction_retention(problem, site, easy)[1] if row["transform"] == "K as degC")
    assert (again["retained"] == 1.0) == is_retained


def test_the_largest_change_of_a_mask_fails_a_lower_tolerance(sound_verdict):
    worst = next(row for row in sound_verdict.details["table"] if row["transform"] == "resampled mask")["worst change"]
    verdict = check(*sound_problem(Sound()), mask_tolerance=0.999 * worst)
    assert (verdict.outcome, verdict.details["retained"]) == ("fail", 11)
    assert "keep their estimate with 'resampled mask'" in verdict.message


def test_values_that_are_not_finite_are_counted_and_fail_another_check():
    verdict = check(*sound_problem(LosesDays()))
    assert (verdict.outcome, verdict.value) == ("advice", 1.0)
    assert "unmeasured" in verdict.details
    assert verdict.details["notes"][0] == "84 of 1460 values at the prior are not finite and are left out."


def test_without_a_finite_value_retention_is_not_known():
    verdict = check(*sound_problem(NoNumbers()))
    assert (verdict.outcome, verdict.value, verdict.details["samples"]) == ("advice", None, 0)


def test_a_network_of_one_precision_is_not_run_in_the_other():
    problem, site = sound_problem(Tied())
    verdict = check(problem.variant(mask=torch.zeros_like(problem.mask)), site)
    assert (verdict.value, verdict.outcome, verdict.details["unmeasured"]) == (1.0, "advice", "estimates")
    assert "estimates not measured: no window has half of its days of nep observed" in verdict.message
    assert "The network was recorded for one precision and cannot be run in the other." in verdict.details["notes"]


def test_a_dict_of_windows_keeps_its_units():
    problem, site = sound_problem(Sound())
    surrogate = FrozenSurrogate(OfWindows(), problem.surrogate.spec)
    problem = problem.variant(surrogate=surrogate, forcing={"air": problem.forcing[..., :1] / 283})
    share, table = prediction_retention(problem, site, InvarianceSettings())
    assert share == 1.0
    assert [row["transform"] for row in table][-1] == PRECISION
    assert all(row["transform"].startswith("fluxes") for row in table[:-1])


def test_predictions_alone_cost_no_inversion():
    problem, site = sound_problem(Sound())
    share, table = prediction_retention(problem, site, InvarianceSettings())
    assert share == 1.0
    assert {row["what"] for row in table} == {"prediction"}


def test_float64_is_compared_with_float32():
    problem = toy_problem(n_days=60)
    trials = try_predictions(problem, cut_windows(problem.days[0], 30), InvarianceSettings())
    assert 1e-9 < trials[-1].worst < 1e-4


def test_many_predictions_do_not_make_up_for_estimates():
    predictions = Trial("K as degC", "prediction", torch.zeros(200), 0.1)
    change = torch.full((200,), torch.nan)
    change[:12] = torch.tensor([0.0] * 11 + [1.0])
    parts = count_parts([predictions, Trial("starts", "estimate", change, 0.25)])
    assert [(part.what, part.samples, part.retained) for part in parts] == [("predictions", 200, 200), ("estimates", 12, 11)]


def test_the_worse_part_decides():
    verdict = check(*sound_problem(Sound()), window_days=15, mask_tolerance=1e-9)
    assert (verdict.outcome, verdict.value, verdict.threshold) == ("fail", 0.0, RETENTION_LOW)
    assert (verdict.details["samples"], verdict.details["retained"]) == (11, 0)  # of twelve, one determines nothing
    assert verdict.details["predictions"] == {"samples": 24, "retained": 24}
    assert verdict.details["estimates"] == {"samples": 11, "retained": 0}
    assert "24 of 24 predictions and 0 of 11 estimates" in verdict.message
    assert "keep their estimate with 'resampled mask'" in verdict.message


@pytest.mark.parametrize(("window_days", "samples"), [(73, 5), (91, 4)])
def test_fewer_than_five_samples_say_nothing(window_days, samples):
    verdict = check(*sound_problem(Sound()), window_days=window_days)
    assert (verdict.details["samples"], verdict.outcome) == (samples, "advice")
    assert (verdict.details.get("unmeasured") == "samples") == (samples < 5)
    assert ("say little" in verdict.message) == (samples < 5)
