"""A right gradient passes, one that is off by more than the tolerance fails, and a path that is cut is named."""

from __future__ import annotations

import pytest
import torch
from lit_invert_invariance.gradients import TANGENT_TOLERANCE, check_gradient
from torch import nn

from lit_invert import FrozenSurrogate, RunInfo
from lit_invert.testing import ToyNetwork, toy_problem

RUN = RunInfo("check-surrogate", "toy", None, 0)


class Skew(torch.autograd.Function):
    """The identity, whose backward and forward derivatives are off by factors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values, backward, tangent):
        return values.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.backward_factor, ctx.tangent_factor = inputs

    @staticmethod
    def backward(ctx, gradient):
        return ctx.backward_factor * gradient, None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        return ctx.tangent_factor * tangent


class Through(nn.Module):
    """The toy with a function before or after it."""

    def __init__(self, before=lambda static: static, after=lambda fluxes: fluxes):
        super().__init__()
        self.toy, self.before, self.after = ToyNetwork(), before, after

    def forward(self, static, forcing):
        return self.after(self.toy(self.before(static), forcing))


def check(n_static=3, dtype=torch.float64, **functions):
    problem = toy_problem(n_static, dtype=dtype)
    surrogate = FrozenSurrogate(Through(**functions), problem.surrogate.spec).to(dtype)
    return check_gradient(problem.variant(surrogate=surrogate), None, RUN)


def lose(fluxes):
    """Make a number no number on every sixteenth day, in a way that the gradient does not notice."""
    return torch.where((torch.arange(fluxes.shape[1]) % 16 == 0)[:, None], torch.nan, fluxes)


def spoil(fluxes):
    """The same in a way that spoils the gradient."""
    return fluxes * torch.where(torch.arange(fluxes.shape[1]) % 16 == 0, torch.nan, 1.0)[:, None]


def test_a_right_gradient_passes():
    verdict = check()
    assert verdict.outcome == "pass"
    assert verdict.value < 1e-8
    assert verdict.details["tangents"] < 1e-8


def test_a_right_gradient_passes_in_single_precision():
    verdict = check(dtype=torch.float32)
    assert verdict.outcome == "pass"
    assert verdict.value < 1e-8
    assert verdict.details["tangents"] < 1e-5


def test_a_path_that_is_cut_is_named():
    verdict = check(before=lambda static: torch.cat([static[:, :1], static[:, 1:2].detach(), static[:, 2:]], dim=1))
    assert verdict.outcome == "fail"
    assert "for 's2' is wrong: autograd" in verdict.message
    assert verdict.details["table"][0]["parameter"] == "s2"


def test_no_path_at_all_names_every_parameter():
    verdict = check(5, before=lambda static: static.detach())
    assert verdict.outcome == "fail"
    assert "'s1', 's2', 's3', 's4' and 1 more" in verdict.message


@pytest.mark.parametrize(("error", "outcome"), [(0.95e-5, "pass"), (1.05e-5, "fail")])
def test_autograd_is_judged_at_its_tolerance(error, outcome):
    verdict = check(1, before=lambda static: Skew.apply(static, 1 + error, 1.0))
    assert verdict.outcome == outcome
    assert verdict.value == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize(("error", "outcome"), [(0.9 * TANGENT_TOLERANCE, "pass"), (1.1 * TANGENT_TOLERANCE, "fail")])
def test_tangents_are_judged_at_theirs(error, outcome):
    verdict = check(1, before=lambda static: Skew.apply(static, 1.0, 1 - error))
    assert verdict.outcome == outcome
    assert verdict.details["tangents"] == pytest.approx(error, rel=1e-6)
    assert ("the tangents of an inversion" in verdict.message.partition("differ")[0]) == (outcome == "fail")


def test_fluxes_without_a_number_are_left_out():
    assert check(after=lose).outcome == "pass"


def test_a_gradient_that_such_fluxes_spoil_is_another_checks_fault():
    verdict = check(after=spoil)
    assert (verdict.outcome, verdict.value) == ("advice", None)
    assert "not finite" in verdict.message


def test_a_network_that_stays_in_single_precision_is_not_measured():
    problem = toy_problem(dtype=torch.float32)
    single = FrozenSurrogate(Through(after=lambda fluxes: fluxes.float()), problem.surrogate.spec)
    verdict = check_gradient(problem.variant(surrogate=single), None, RUN)
    assert (verdict.outcome, verdict.value) == ("advice", None)


def test_the_surrogate_itself_stays_as_it_is():
    problem = toy_problem(dtype=torch.float32)
    check_gradient(problem, None, RUN)
    assert problem.surrogate.network.gain.dtype == torch.float32


def after_day(day, cut):
    """Return a toy that cuts the path of its first parameter on the days after one, or on those before."""

    class Cuts(nn.Module):
        def __init__(self):
            super().__init__()
            self.toy = ToyNetwork()

        def forward(self, static, forcing):
            is_cut = ((torch.arange(forcing.shape[1]) >= day) == (cut == "after"))[:, None]
            without = torch.cat([static[:, :1].detach(), static[:, 1:]], dim=1)
            return torch.where(is_cut, self.toy(without, forcing), self.toy(static, forcing))

    return Cuts()


def test_a_path_that_is_cut_late_in_the_year_is_named():
    problem = toy_problem(n_days=365)
    surrogate = FrozenSurrogate(after_day(200, "after"), problem.surrogate.spec).double()
    verdict = check_gradient(problem.variant(surrogate=surrogate), None, RUN)
    assert verdict.outcome == "fail"
    assert "'s1'" in verdict.message


@pytest.mark.parametrize(("warmup", "outcome"), [(99, "fail"), (100, "pass")])
def test_days_of_the_warm_up_do_not_count(warmup, outcome):
    problem = toy_problem(n_days=365)
    problem = problem.variant(surrogate=FrozenSurrogate(after_day(100, "before"), problem.surrogate.spec).double())
    problem.days[:, :warmup] = False
    assert check_gradient(problem, None, RUN).outcome == outcome


def test_fluxes_that_depend_on_no_parameter_are_not_confirmed():
    verdict = check(before=lambda static: 0 * static.detach())
    assert (verdict.outcome, verdict.value) == ("advice", None)
    assert "it is zero" in verdict.message
