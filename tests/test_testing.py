"""The kit for plugin authors: the toy has the answer that it says, and each check fails for a term that breaks its promise."""

from __future__ import annotations

import pytest
import torch

from lit_invert.losses import LossTerm, Misfit, SquaredTerm
from lit_invert.testing import (
    check_constraint,
    check_loss_term,
    toy_forcing,
    toy_problem,
    toy_surrogate,
    toy_table,
    toy_truth,
)
from lit_invert.transforms import ScaledTransform, SigmoidTransform


def test_the_toy_is_its_formula():
    surrogate = toy_surrogate(2).double()
    forcing = torch.tensor([[[288.0, 272.0, 160.0]]], dtype=torch.float64)  # scaled 1, -1, 0.5
    gpp, npp, nep, rh = surrogate(torch.tensor([[1.0, -2.0]], dtype=torch.float64), surrogate.prepare(forcing))[0, 0]
    phase = torch.tensor(1.2, dtype=torch.float64)
    gain = torch.tensor(0.1).double()  # the weight was made in float32
    torch.testing.assert_close(gpp, 7 * (1 + gain * (phase.cos() - 2 * (2 * phase).cos())), rtol=1e-14, atol=0)
    torch.testing.assert_close(rh, 1 + gain * (phase.sin() - 2 * (2 * phase).sin()), rtol=1e-14, atol=0)
    assert npp == gpp / 2
    assert nep == npp - rh


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transform", [ScaledTransform, SigmoidTransform])
def test_the_truth_is_the_minimum(dtype, transform):
    problem = toy_problem(n_static=5, transform=transform, dtype=dtype)
    truth = problem.space.to_theta(toy_truth(5, dtype))[None].requires_grad_()
    total = problem(truth).total
    (gradient,) = torch.autograd.grad(total.sum(), truth)
    assert total.item() < torch.finfo(dtype).eps ** 2 * 1e4
    assert gradient.abs().max().item() < torch.finfo(dtype).eps * 1e3
    assert problem(problem.space.to_theta(problem.space.prior)[None]).total.item() > 0.01


def test_the_truth_is_the_only_minimum():
    problem = toy_problem(n_static=5)
    design = torch.func.jacrev(lambda theta: problem.simulate(theta[None])[0, :, 2])(torch.zeros(5, dtype=torch.float64))
    assert torch.linalg.cond(design) < 100  # the misfit is a parabola with this design


def test_table_names_and_bounds_fit_the_surrogate():
    names = ("lf0", "lc0")
    table, surrogate = toy_table(names=names), toy_surrogate(names=names)
    assert table.names == tuple(v.name for v in surrogate.spec.statics) == names
    truth = toy_truth(2)
    assert bool(((truth > table.bounds.lower) & (truth < table.bounds.upper)).all())


def test_forcing_is_one_year_with_its_summer_in_the_middle():
    light = toy_forcing(40)[0, :, 2]
    assert light.shape == (40,)
    assert light.argmax().item() == 20
    assert light.argmin().item() == 0


class Faulty(LossTerm):
    name = "faulty"

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, evaluation):
        return self.function(evaluation)


def _nep(evaluation):
    return evaluation.flux("nep")


def _in_place(evaluation):
    with torch.no_grad():
        evaluation.observed.mul_(2)
    return _nep(evaluation).mean(-1)


def _late(evaluation):
    return _nep(evaluation).mean(-1) * torch.rand(1).double()


class _WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda e: 0.0, "returned float, expected a tensor"),
        (lambda e: _nep(e).mean(), r"returned shape \(\), expected \(3,\)"),
        (lambda e: _nep(e).mean(-1, keepdim=True), r"returned shape \(3, 1\)"),
        (lambda e: _nep(e).mean(-1) / e.mask.sum((1, 2)), "with days missing and uncertainties: returned .*inf"),
        (lambda e: (_nep(e) / e.flux("gpp")).mean(-1), "with all fluxes zero: returned .nan"),
        (_late, "from the same inputs"),
        (_in_place, "changes its inputs in place"),
        (lambda e: _nep(e).mean(-1) - _nep(e).mean(), "members must not see each other"),
        (lambda e: (_nep(e) - e.observed[..., 2]).square().mean(-1), "depends on observations where the mask is false"),
        (lambda e: _nep(e).mean(-1).detach(), "has no gradient"),
        (lambda e: _nep(e).square().mean(-1).sqrt(), "all fluxes zero: its gradient with respect to `simulated` is not finite"),
        (lambda e: _WrongGradient.apply(_nep(e)).square().mean(-1), "its gradient disagrees with finite differences"),
        (lambda e: _nep(e).mean(-1).double(), "returned torch.float64 from float32 inputs"),
    ],
)
def test_a_broken_promise_of_a_term_is_named(function, message):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=f"loss term 'faulty'.*{message}"):
        check_loss_term(Faulty(function))


class FaultyResiduals(SquaredTerm):
    name = "faulty"

    def __init__(self, residuals, forward=None, push=None):
        super().__init__()
        self.given = residuals
        if forward is not None:
            self.forward = forward
        if push is not None:
            self.push_residuals = push

    def residuals(self, evaluation):
        return self.given(evaluation)


def _squares(residuals):
    return lambda evaluation: residuals(evaluation).square().flatten(1).sum(-1)


def _all_days(evaluation):
    return _nep(evaluation) - evaluation.observed[..., 2]


def _observed_days(evaluation):
    return torch.where(evaluation.mask[..., 2], _all_days(evaluation), 0.0)


def _late_days(evaluation):
    return torch.where((evaluation.simulated == 0).all(1)[:, 2:3], 1.0 + _nep(evaluation), _nep(evaluation))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ((_all_days, _squares(_observed_days)), "with days missing and uncertainties: the squares of its residuals sum to"),
        ((_late_days, _squares(_nep)), "with all fluxes zero: the squares of its residuals sum to"),
        ((lambda e: e.simulated, _squares(lambda e: e.simulated)), r"its residuals have shape \(3, 24, 4\), expected \(3, any\)"),
        ((_nep, None, lambda e, t: t.simulated[:, :, 0]), "`push_residuals` disagrees with the derivative of `residuals`"),
        ((_nep, None, lambda e, t: t.simulated.sum(2)[:, 1:]), r"`push_residuals` returned \(3, 23, 3\), expected \(3, 24, 3\)"),
        (
            (lambda e: _nep(e).double(), lambda e: _nep(e).square().sum(-1)),
            "its residuals are torch.float64 from float32 inputs",
        ),
    ],
)
def test_a_broken_promise_of_residuals_is_named(methods, message):
    with pytest.raises(AssertionError, match=f"loss term 'faulty'.*{message}"):
        check_loss_term(FaultyResiduals(*methods))


def test_a_term_without_a_name_is_told_so():
    class Nameless(Misfit):
        name = None

    with pytest.raises(AssertionError, match="no attribute `name`"):
        check_loss_term(Nameless())


def test_a_term_may_look_up_parameters_of_a_given_problem():
    term = Faulty(lambda e: e.parameter("lf0").square())
    check_loss_term(term, toy_problem(n_days=8, names=("lf0", "lc0")))


def _transform(name, to_physical=None, to_theta=None):
    methods = {"to_physical": to_physical, "to_theta": to_theta}
    return type("Odd", (SigmoidTransform,), {"name": name, **{key: value for key, value in methods.items() if value}})


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"to_theta": lambda t, x: SigmoidTransform.to_theta(t, x) + 1}, r"to_physical\(to_theta\(x\)\) is"),
        ({"to_theta": ScaledTransform.to_theta}, r"to_physical\(to_theta\(x\)\) is"),
        ({"to_theta": lambda t, x: SigmoidTransform.to_theta(t, x).double()}, "keep the inputs' precision"),
        (
            {"to_physical": ScaledTransform.to_physical, "to_theta": ScaledTransform.to_theta},
            "falls below a lower bound",
        ),
        ({"to_physical": lambda t, z: SigmoidTransform.to_physical(t, z.detach()) + 0 * z}, "disagrees with finite differences"),
    ],
)
def test_a_broken_promise_of_a_transform_is_named(methods, message):
    with pytest.raises(AssertionError, match=f"transform 'odd'.*{message}"):
        check_constraint(_transform("odd", **methods), keeps=("lower", "upper"))


def test_infinite_theta_on_a_bound_is_named():
    def to_theta(transform, physical):
        lower, upper = transform._interval(physical)
        return torch.logit((transform.scaler.to_line(physical) - lower) / (upper - lower))

    with pytest.raises(AssertionError, match=r"theta of a prior on its lower bounds is .*inf.*, not finite"):
        check_constraint(_transform("odd", to_theta=to_theta))
