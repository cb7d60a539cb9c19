"""Gradient and curvature by tangents, against autograd and finite differences in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lit_invert.losses import Boundary, LossTerm, Misfit, Prior
from lit_invert.parameters import ParameterSpace
from lit_invert.problem import InversionProblem
from lit_invert.problem_objective import ProblemObjective
from lit_invert.testing import toy_problem
from lit_invert.transforms import Bounds, LogTransform, ScaledTransform, SigmoidTransform, SoftplusTransform

THETA = torch.tensor([[0.3, -0.6, 0.9], [-1.1, 0.2, 0.4]], dtype=torch.float64)


class Quartic(LossTerm):
    """No sum of squares: it has a gradient and no residuals."""

    name = "quartic"

    def forward(self, evaluation):
        return evaluation.scaled.pow(4).sum(-1) + evaluation.flux("gpp").mean(-1).sin()


class Cubes(LossTerm):
    """Residuals that are not linear, without a derivative of its own."""

    name = "cubes"

    def forward(self, evaluation):
        return self.residuals(evaluation).square().sum(-1)

    def residuals(self, evaluation):
        return torch.cat([evaluation.flux("gpp").sin() / 10, evaluation.scaled**3, evaluation.physical], dim=-1)


def autograd(problem, theta):
    leaf = theta.clone().requires_grad_()
    loss = problem(leaf).total
    return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]


def residuals_of(problem, theta):
    """All residuals of one member with the root of their weights, as one vector."""
    evaluation = problem.evaluate(theta[None])
    found = [(term, term.residuals(evaluation)) for term in problem.loss_terms]
    return torch.cat([term.weight**0.5 * r[0] for term, r in found if r is not None])


TERMS = {
    "misfit and prior": [Misfit(), Prior(weight=0.3)],
    "prior in sd": [Misfit(), Prior("prior_sd", weight=0.1)],
    "all fluxes": [Misfit(multi_output=True), Prior()],
    "boundary": [Misfit(), Boundary(0.4, weight=2.0)],
    "no residuals": [Misfit(), Quartic(0.7)],
    "a plugin's residuals": [Misfit(), Cubes(0.2)],
}


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS.keys())
def test_the_gradient_is_that_of_autograd(terms):
    problem = toy_problem(terms=terms)
    linear = ProblemObjective(problem).linearize(THETA)
    loss, gradient = autograd(problem, THETA)
    torch.testing.assert_close(linear.loss, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(linear.gradient, gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS.keys())
def test_the_curvature_is_twice_the_square_of_the_jacobian(terms):
    problem = toy_problem(terms=terms)
    linear = ProblemObjective(problem).linearize(THETA)
    for theta, curvature in zip(THETA, linear.curvature, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda t: residuals_of(problem, t), theta)
        torch.testing.assert_close(curvature, 2 * jacobian.T @ jacobian, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("transform", [SigmoidTransform, SoftplusTransform, LogTransform])
def test_coordinates_of_the_transform_are_followed(transform):
    problem = toy_problem(terms=[Misfit(), Prior(), Boundary(0.3)], transform=transform)
    linear = ProblemObjective(problem).linearize(THETA)
    _, gradient = autograd(problem, THETA)
    torch.testing.assert_close(linear.gradient, gradient, rtol=1e-6, atol=1e-8)


def test_what_has_no_residuals_is_the_remainder():
    both = ProblemObjective(toy_problem(terms=[Misfit(), Quartic(0.7)])).linearize(THETA)
    alone = toy_problem(terms=[Quartic(0.7)])
    torch.testing.assert_close(both.remainder, autograd(alone, THETA)[1], rtol=1e-6, atol=1e-8)
    assert ProblemObjective(toy_problem(terms=[Misfit()])).linearize(THETA).remainder is None
    torch.testing.assert_close(ProblemObjective(alone).linearize(THETA).curvature, torch.zeros(2, 3, 3, dtype=torch.float64))


def test_a_negative_weight_is_no_sum_of_squares():
    linear = ProblemObjective(toy_problem(terms=[Misfit(), Prior(weight=-0.1)])).linearize(THETA)
    assert linear.remainder is not None
    torch.testing.assert_close(
        linear.gradient, autograd(toy_problem(terms=[Misfit(), Prior(weight=-0.1)]), THETA)[1], rtol=1e-6, atol=1e-8
    )


def test_pushing_and_pulling_agree():
    objective = ProblemObjective(toy_problem(terms=[Misfit(), Prior()]))
    loss, gradient = objective.gradient(THETA)
    linear = objective.linearize(THETA)
    torch.testing.assert_close(loss, objective.loss(THETA), rtol=0, atol=0)
    torch.testing.assert_close(gradient, linear.gradient, rtol=1e-6, atol=1e-8)


def test_some_members_are_evaluated_as_if_alone():
    objective = ProblemObjective(toy_problem(terms=[Misfit(), Prior()]))
    whole = objective.linearize(THETA)
    part = objective.linearize(THETA[1:], torch.tensor([1]))
    torch.testing.assert_close(part.gradient, whole.gradient[1:], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(part.curvature, whole.curvature[1:], rtol=1e-12, atol=1e-14)


def test_asking_twice_simulates_once():
    objective = ProblemObjective(toy_problem(terms=[Misfit(), Prior()]))
    assert objective.linearize(THETA) is objective.linearize(THETA.clone())
    assert objective.linearize(THETA + 1) is not objective.linearize(THETA)
    torch.testing.assert_close(objective.loss_at(THETA).total, objective.loss(THETA))


def test_fixed_parameters_have_no_direction_and_no_room():
    problem = toy_problem(terms=[Misfit(), Prior()])
    space = problem.space
    fixed = torch.tensor([False, True, False])
    space.table = replace(space.table, fixed=fixed)
    space._fixed = fixed
    linear = ProblemObjective(problem).linearize(THETA)
    assert (linear.gradient[:, 1] == 0).all()
    assert (linear.curvature[:, 1] == 0).all()
    assert (linear.curvature[:, :, 1] == 0).all()
    torch.testing.assert_close(linear.gradient, autograd(problem, THETA)[1], rtol=1e-6, atol=1e-8)
    for is_bounded in (True, False):
        lower, upper = ProblemObjective(problem, is_bounded).bounds(THETA)
        assert torch.equal(lower[:, 1], THETA[:, 1])
        assert torch.equal(upper[:, 1], THETA[:, 1])


def test_bounds_are_those_of_the_table_unless_clipping_is_off():
    problem = toy_problem(terms=[Misfit()])
    lower, upper = ProblemObjective(problem).bounds(THETA)
    physical = problem.space.table.bounds.resolve(problem.space.to_physical(THETA))
    torch.testing.assert_close(problem.space.to_physical(lower), physical[0])
    torch.testing.assert_close(problem.space.to_physical(upper), physical[1])
    far = torch.full_like(THETA, 50.0)
    objective = ProblemObjective(problem, is_bounded=False)
    assert torch.equal(objective.project(far), far)
    assert all(torch.isinf(side).all() for side in objective.bounds(THETA))


def named_bound_problem(transform):
    """Three parameters of which the second lies between the first and 3.5."""
    problem = toy_problem(terms=[Misfit(), Prior(weight=0.1), Boundary(0.3)])
    bounds = Bounds(torch.tensor([0.5, 0.0, 1.0]).double(), torch.tensor([1.5, 3.5, 3.0]).double(), [-1, 0, -1])
    prior = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    table = replace(problem.space.table, bounds=bounds, prior=prior)
    space = ParameterSpace(table, transform(problem.surrogate.static_scaler, bounds))
    return InversionProblem(problem.surrogate, space, problem.forcing, problem.observed, problem.mask, problem.loss_terms)


@pytest.mark.parametrize("transform", [ScaledTransform, SigmoidTransform, SoftplusTransform, LogTransform])
def test_bounds_that_name_a_parameter_are_followed(transform):
    problem = named_bound_problem(transform)
    physical = torch.tensor([[0.7, 3.2, 2.0], [1.2, 2.0, 1.5]], dtype=torch.float64)
    theta = problem.space.to_theta(physical)
    linear = ProblemObjective(problem).linearize(theta)
    torch.testing.assert_close(linear.gradient, autograd(problem, theta)[1], rtol=1e-5, atol=1e-7)
    _, upper = problem.space.theta_bounds(theta)
    for place in range(3):
        if torch.isfinite(upper[0, place]):  # the others stay where they are
            at = theta.clone()
            at[:, place] = upper[:, place]
            expected = problem.space.bounds.upper[place].expand(2)
            torch.testing.assert_close(problem.space.to_physical(at)[:, place], expected)


def test_a_transform_of_a_plugin_is_not_taken_for_ours():
    class Halved(ScaledTransform):
        name = "halved"

        def to_physical(self, theta):
            return super().to_physical(theta / 2)

        def to_theta(self, physical):
            return 2 * super().to_theta(physical)

    problem = toy_problem(terms=[Misfit(), Prior()], transform=Halved)
    linear = ProblemObjective(problem).linearize(THETA)
    torch.testing.assert_close(linear.gradient, autograd(problem, THETA)[1], rtol=1e-6, atol=1e-8)


def test_a_member_counts_its_own_fluxes_whoever_else_is_asked():
    problem = toy_problem(terms=[Misfit(multi_output=True)])
    mask = problem.mask.expand(2, -1, -1).clone()
    mask[..., :] = False
    mask[:, :, 2] = True
    mask[1, :, 0] = True  # only the second member has GPP
    both = InversionProblem(
        problem.surrogate, problem.space, problem.forcing, problem.observed.expand(2, -1, -1), mask, problem.loss_terms
    )
    objective = ProblemObjective(both)
    whole = objective.loss(THETA)
    for member in range(2):
        torch.testing.assert_close(objective.loss(THETA[member : member + 1], torch.tensor([member]))[0], whole[member])
    linear = objective.linearize(THETA)
    torch.testing.assert_close(linear.gradient, autograd(both, THETA)[1], rtol=1e-6, atol=1e-8)


def test_a_term_that_depends_on_nothing_adds_nothing():
    class Constant(LossTerm):
        name = "constant"

        def forward(self, evaluation):
            return evaluation.scaled.new_full(evaluation.scaled.shape[:1], 3.0)

    linear = ProblemObjective(toy_problem(terms=[Misfit(), Constant()])).linearize(THETA)
    torch.testing.assert_close(linear.gradient, autograd(toy_problem(terms=[Misfit()]), THETA)[1], rtol=1e-6, atol=1e-8)
