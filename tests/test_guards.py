"""A plugin's term that raises, or returns what no term may return, is named at the step at which it does."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_invert.errors import ConfigError, DivergenceError, PluginError
from lit_invert.guards import GuardedTerm, PluginInfo, attributed, check_transform
from lit_invert.inversion import invert
from lit_invert.losses import LossTerm, Misfit, Prior, SquaredTerm
from lit_invert.observations import Observations
from lit_invert.problem_objective import ProblemObjective
from lit_invert.settings import InversionSettings
from lit_invert.testing import check_loss_term, toy_forcing, toy_problem, toy_surrogate, toy_table
from lit_invert.transforms import ScaledTransform

PLUGIN = PluginInfo("mine", SimpleNamespace(), "mine-dist", "1.2")


class Given(LossTerm):
    """A term that is whatever it is told to be."""

    name = "given"

    def __init__(self, function, weight=1.0):
        super().__init__(weight)
        self.function = function

    def forward(self, evaluation):
        return self.function(evaluation)


def _total(function, theta=None):
    problem = toy_problem(n_days=6, terms=[Misfit(), GuardedTerm(Given(function), PLUGIN)])
    theta = torch.full((2, 3), 0.1, dtype=torch.float64) if theta is None else theta
    return problem(theta.requires_grad_()).total.sum()


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda e: 1 / 0, "ZeroDivisionError: division by zero."),
        (lambda e: e.nothing, "AttributeError: 'Evaluation' object has no attribute 'nothing'"),
        (lambda e: 1.0, "returned float, expected a tensor of shape (2,)"),
        (lambda e: e.simulated.sum(), "returned torch.float64 of shape (), expected floating point of shape (2,)"),
        (lambda e: e.simulated.mean(-1), "returned torch.float64 of shape (2, 6), expected"),
        (lambda e: e.mask.sum((1, 2)).expand(2), "returned torch.int64 of shape (2,), expected floating point"),
        (lambda e: e.physical.detach().sum(-1), "returned a value without a gradient"),
        (lambda e: e.physical.sum(-1) * torch.tensor([1.0, torch.nan]), "returned nan for member 1 though the simulated fluxes"),
        (lambda e: e.physical.sum(-1) / 0, "returned inf for member 0"),
        (lambda e: e.physical.sum(-1).to("meta"), "returned a tensor on meta, its inputs are on cpu"),
    ],
)
def test_a_faulty_term_is_named(function, cause):
    with pytest.raises(PluginError) as error:
        _total(function)
    assert "plugin 'mine' (mine-dist 1.2) failed in loss term 'given': " + cause in str(error.value)
    assert "\n" not in str(error.value)


def test_a_gradient_that_is_not_finite_is_named():
    total = _total(lambda e: (e.scaled * 0).square().sum(-1).sqrt())
    assert torch.isfinite(total)
    with pytest.raises(PluginError, match=r"\(mine-dist 1\.2\) failed in loss term 'given': its gradient is not finite"):
        total.backward()


def test_a_nan_that_came_in_is_not_the_terms_fault():
    theta = torch.tensor([[torch.nan, 0.0, 0.0]], dtype=torch.float64)
    assert torch.isnan(_total(lambda e: e.simulated.mean((1, 2)), theta))


def test_without_gradients_a_term_may_be_evaluated():
    with torch.no_grad():
        assert torch.isfinite(_total(lambda e: e.simulated.mean((1, 2))))


@pytest.mark.parametrize("term", [Misfit(multi_output=True, weight=0.7), Prior(weight=0.3)])
def test_the_guard_changes_no_bit(term):
    theta = torch.tensor([[0.3, -0.2, 0.9], [1.0, 0.0, -1.0]])
    gradients = []
    for terms in ([term], [GuardedTerm(term, PLUGIN)]):
        problem = toy_problem(terms=terms, dtype=torch.float32)
        leaf = theta.clone().requires_grad_()
        loss = problem(leaf)
        gradients.append((*torch.autograd.grad(loss.total.sum(), leaf), loss.total.detach(), loss.terms[term.name].detach()))
    assert all(torch.equal(bare, guarded) for bare, guarded in zip(*gradients, strict=True))


def test_a_guarded_term_keeps_the_contract_and_its_weight_is_the_terms():
    term = Prior(weight=0.3)
    guarded = GuardedTerm(term, PLUGIN)
    guarded.weight = 2.0
    assert (guarded.name, guarded.weight, term.weight) == ("prior", 2.0, 2.0)
    check_loss_term(guarded.term)


class Pushed(SquaredTerm):
    """The scaled parameters as residuals, with the derivative that it is told to return."""

    name = "pushed"

    def __init__(self, push):
        super().__init__()
        self.push, self.asked = push, 0

    def residuals(self, evaluation):
        self.asked += 1
        return evaluation.scaled

    def push_residuals(self, evaluation, tangent):
        return self.push(tangent.scaled.mT)


def _linearize(term):
    problem = toy_problem(n_days=6, terms=[Misfit(), GuardedTerm(term, PLUGIN)])
    return ProblemObjective(problem).linearize(torch.full((2, 3), 0.1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("push", "cause"),
    [
        (lambda slope: slope[0], r"its `push_residuals` returned \(3, 3\), expected a tensor of shape \(2, 3, 3\)"),
        (lambda slope: slope[:, :2], r"its `push_residuals` returned \(2, 2, 3\), expected a tensor of shape \(2, 3, 3\)"),
        (lambda slope: 1.0, r"its `push_residuals` returned float, expected a tensor of shape \(2, 3, 3\)"),
        (lambda slope: slope / 0, "its `push_residuals` is not finite though the tangents of the fluxes are"),
        (lambda slope: slope.nothing, "AttributeError: 'Tensor' object has no attribute 'nothing'"),
    ],
)
def test_a_faulty_derivative_of_residuals_is_named(push, cause):
    with pytest.raises(PluginError, match=rf"\(mine-dist 1\.2\) failed in loss term 'pushed': {cause}"):
        _linearize(Pushed(push))


def test_a_linearization_asks_a_guarded_sum_of_squares_no_more_often_than_a_bare_one():
    guarded, bare = Pushed(lambda slope: slope), Pushed(lambda slope: slope)
    linear = _linearize(guarded)
    problem = toy_problem(n_days=6, terms=[Misfit(), bare])
    expected = ProblemObjective(problem).linearize(torch.full((2, 3), 0.1, dtype=torch.float64))
    assert guarded.asked == bare.asked
    assert torch.equal(linear.curvature, expected.curvature)


@pytest.mark.parametrize(
    ("residuals", "cause"),
    [
        (lambda e: 2 * e.scaled, "its residuals' squares sum to .*, its value is .*; expected the same, without the weight"),
        (lambda e: e.scaled[:1], r"its residuals are \(1, 3\), expected a tensor of shape \(2, any\)"),
        (lambda e: [1.0, 2.0], r"its residuals are list, expected a tensor of shape \(2, any\)"),
    ],
)
def test_residuals_that_are_not_those_of_the_value_are_named(residuals, cause):
    class Squared(Given):
        def residuals(self, evaluation):
            return residuals(evaluation)

    with pytest.raises(PluginError, match=f"failed in loss term 'given': {cause}"):
        _linearize(Squared(lambda e: e.scaled.square().sum(-1)))


def test_our_errors_keep_their_words():
    with pytest.raises(ConfigError, match="'ne' is not a known output"):
        _total(lambda e: e.flux("ne"))
    with pytest.raises(DivergenceError), attributed(PLUGIN, "anything"):
        raise DivergenceError("loss is not finite", step=3)


def test_an_error_of_several_lines_becomes_one():
    with pytest.raises(PluginError) as error, attributed(PLUGIN, "anything"):
        raise RuntimeError("first\n  second")
    assert "RuntimeError: first second. Mend it" in str(error.value)


class _Strange(ScaledTransform):
    name = "strange"

    def to_theta(self, physical):
        return self.answer(super().to_theta(physical))


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (lambda theta: theta + torch.tensor([0.0, 0.1, 0.0]), "takes 's2' from 2.0 to 2.05"),
        (lambda theta: theta * torch.nan, "takes 's1' from 2.0 to nan"),
        (lambda theta: theta[None], "a round trip of the prior returned (1, 3), expected shape (3,)"),
        (lambda theta: theta / "x", "TypeError"),
    ],
)
def test_a_transform_that_does_not_come_back_is_named(answer, cause):
    problem = toy_problem()
    problem.space.transform.__class__ = type("Strange", (_Strange,), {"answer": staticmethod(answer)})
    with pytest.raises(PluginError) as error:
        check_transform(problem.space, PLUGIN)
    assert "(mine-dist 1.2) failed in transform 'strange': " in str(error.value)
    assert cause in str(error.value)


def test_a_guarded_term_can_be_copied_and_still_names_its_plugin():
    plugin = PluginInfo("mine", torch, "mine-dist", "1.2")  # a real module, which cannot be copied
    copied = copy.deepcopy(GuardedTerm(Prior(), plugin))
    again = pickle.loads(pickle.dumps(copied))
    assert (again.name, again.plugin.label, again.plugin.module) == ("prior", "mine-dist 1.2", None)


def test_a_term_that_fails_in_the_middle_of_a_fit_stops_it_by_name():
    calls = []

    def third_time_unlucky(evaluation):
        calls.append(1)
        return evaluation.physical.sum(-1) * (torch.nan if len(calls) == 3 else 0.0)

    truth = toy_problem(n_days=20)
    fit = Observations(
        dates=np.arange("2016-01-01", "2016-01-21", dtype="datetime64[D]"),
        names=truth.surrogate.spec.output_names,
        values=truth.observed[0].numpy(),
        mask=truth.mask[0].numpy(),
        sigma=None,
    )
    with pytest.raises(PluginError, match=r"\(mine-dist 1\.2\) failed in loss term 'given': returned nan"):
        invert(
            toy_surrogate(),
            toy_table(),
            toy_forcing(20)[0],
            fit,
            InversionSettings(max_iters=10),
            terms=[GuardedTerm(Given(third_time_unlucky), PLUGIN)],
            trainer={"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False},
        )
    assert len(calls) == 3
