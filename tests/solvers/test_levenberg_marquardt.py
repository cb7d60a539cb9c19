"""What Levenberg-Marquardt alone promises: exactness on linear problems, damping, terms without residuals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lit_invert.objective import Linearization
from lit_invert.solvers import LeastSquares, LevenbergMarquardt, Stopping, minimize
from lit_invert.solvers.structured import structured_update
from tests.solvers.problems import TIGHT, WithTerm, best_of_all_active_sets, draw, linear, real, rosenbrock


def test_one_undamped_step_solves_a_linear_problem_in_a_box():
    matrix, right, objective = linear(0)
    theta = nn.Parameter(torch.zeros(1, 5, dtype=torch.float64))
    LevenbergMarquardt([theta], objective, damping=1e-14).step()
    expected = best_of_all_active_sets(matrix, right, objective.lower, objective.upper)
    torch.testing.assert_close(theta[0].detach(), expected, rtol=0, atol=1e-11)


def test_two_steps_with_the_default_damping_come_within_its_square():
    matrix, right = draw(40, 6, seed=1), draw(40, seed=2)
    expected = torch.linalg.lstsq(matrix, right).solution
    objective = LeastSquares(lambda theta: theta @ matrix.T - right)
    theta = minimize(objective, torch.zeros(1, 6, dtype=torch.float64), LevenbergMarquardt, max_iters=2).theta[0]
    # each step leaves a share of about the damping, which is 1e-2 and then a third of that, of the distance
    assert (theta - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_unit_of_a_parameter_does_not_change_the_path(scale):
    units = real(scale, 1.0, 1.0)
    plain = rosenbrock(parameters=3).residuals
    expected = minimize(LeastSquares(plain), real(-1.2, 1.0, 0.5)[None], LevenbergMarquardt, max_iters=6)
    scaled = minimize(
        LeastSquares(lambda theta: plain(theta * units)), real(-1.2, 1.0, 0.5)[None] / units, LevenbergMarquardt, max_iters=6
    )
    torch.testing.assert_close(scaled.theta * units, expected.theta, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(scaled.loss, expected.loss, rtol=1e-8, atol=1e-14)


def test_a_member_that_nothing_improves_is_stuck_and_the_others_go_on():
    class WrongWay(LeastSquares):
        """The first member is told the opposite of its gradient."""

        def linearize(self, theta: torch.Tensor, members: torch.Tensor | None = None) -> Linearization:
            right = super().linearize(theta)
            sign = torch.ones(len(theta), 1, dtype=theta.dtype)
            if members is None:
                sign[0] = -1.0
            return Linearization(right.loss, sign * right.gradient, right.curvature)

    solution = minimize(WrongWay(lambda theta: theta), torch.ones(2, 3, dtype=torch.float64), LevenbergMarquardt)
    assert torch.equal(solution.theta[0], torch.ones(3, dtype=torch.float64))
    assert solution.theta[1].abs().max() < 1e-3
    assert "1 stuck" in solution.status


def newton(objective, theta, steps=50):
    """Minimise with exact second derivatives."""
    for _ in range(steps):
        gradient = torch.func.jacrev(lambda t: objective.loss(t[None])[0])(theta)
        hessian = torch.func.hessian(lambda t: objective.loss(t[None])[0])(theta)
        theta = theta - torch.linalg.solve(hessian, gradient)
    assert gradient.norm() < 1e-10
    return theta


@pytest.mark.parametrize("weight", [0.1, 10.0, 300.0])
def test_terms_without_residuals_reach_the_minimum_of_newtons_method(weight):
    matrix, right = draw(12, 6, seed=3), draw(12, seed=4)
    centre = draw(6, seed=5)

    def term(theta):
        return weight * torch.log(torch.cosh(theta - centre)).sum(-1)

    objective = WithTerm(lambda theta: torch.sinh(theta @ matrix.T / 4) - right, term)
    expected = newton(objective, centre)
    start = torch.stack([centre + 1.0, centre - 0.5])
    solution = minimize(objective, start, lambda p, o: LevenbergMarquardt(p, o, stopping=TIGHT), max_iters=100)
    torch.testing.assert_close(solution.theta, expected.expand(2, 6), rtol=0, atol=1e-6)
    assert solution.iterations < 60


def test_learned_curvature_saves_linearizations():
    class Unlearned(WithTerm):
        """Keeps to itself which part of the gradient has no residuals."""

        def linearize(self, theta: torch.Tensor, members: torch.Tensor | None = None) -> Linearization:
            linear = super().linearize(theta)
            return Linearization(linear.loss, linear.gradient, linear.curvature)

    matrix, right, centre = draw(12, 6, seed=3), draw(12, seed=4), draw(6, seed=5)
    parts = (
        lambda theta: torch.sinh(theta @ matrix.T / 3.5) - right,
        lambda theta: torch.log(torch.cosh(2 * (theta - centre))).sum(-1),
    )
    counts = [
        minimize(problem(*parts), centre[None] + 1.0, LevenbergMarquardt).evaluations["linearizations"]
        for problem in (WithTerm, Unlearned)
    ]
    assert counts[0] <= 0.75 * counts[1]


def test_a_step_that_had_to_be_cut_is_no_sign_of_convergence():
    # far out on the tanh the model asks for a step of about a thousand; the first that helps is shorter than the tolerance
    theta = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    objective = LeastSquares(lambda theta: torch.tanh(5 * theta))
    solver = LevenbergMarquardt([theta], objective, stopping=Stopping(step=0.5))
    solver.step()
    assert 0.5 < theta.item() < 1.0
    assert solver.running.all()


def test_the_learned_curvature_is_symmetric_and_satisfies_the_secant_equation():
    old = draw(4, 5, 5, seed=6)
    step, change, whole = draw(4, 5, seed=7), draw(4, 5, seed=8), draw(4, 5, seed=9)
    whole = whole * (step * whole).sum(-1, keepdim=True).sign()
    new = structured_update(old + old.mT, step, change, whole)
    torch.testing.assert_close(new, new.mT)
    torch.testing.assert_close((new @ step[..., None])[..., 0], change)


def test_the_learned_curvature_stays_where_the_gradient_shrank_along_the_step():
    old = draw(1, 5, 5, seed=6)
    step = draw(1, 5, seed=7)
    assert torch.equal(structured_update(old, step, draw(1, 5, seed=8), -step), old)


def test_the_learned_curvature_starts_as_the_mean_curvature_along_the_first_step():
    step = real(1.0, 0.0)[None]
    new = structured_update(torch.zeros(1, 2, 2, dtype=torch.float64), step, 3 * step, 3 * step)
    torch.testing.assert_close(new, 3 * torch.eye(2, dtype=torch.float64)[None])


def test_too_large_a_learned_curvature_is_shrunk_before_the_update():
    # S = 100 I, but the terms now show a curvature of 1 along the step: directions that it says nothing of shrink with it
    step = real(1.0, 0.0)[None]
    new = structured_update(100 * torch.eye(2, dtype=torch.float64)[None], step, step, step)
    torch.testing.assert_close(new, torch.eye(2, dtype=torch.float64)[None])
