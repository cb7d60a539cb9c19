"""What the two solvers with a line search promise beyond what all do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lit_invert.solvers import BoundedLBFGS, LeastSquares, QuasiNewton, Stopping, minimize
from lit_invert.solvers.quasi_newton import damped_update
from tests.solvers.problems import TIGHT, draw, real, rosenbrock

#: Gradients that scipy 1.17.1's L-BFGS-B needs to lower the loss by all but 1e-5 of what can be gained, from the same starts.
SCIPY = {(10, -2.0, 0.5): 24, (20, -0.5, 0.9): 121, (36, -0.5, 0.9): 253, (36, 1.1, 3.0): 8}


@pytest.mark.parametrize(("box", "scipy"), SCIPY.items())
def test_lbfgs_needs_no_more_gradients_than_scipy(box, scipy):
    parameters, lower, upper = box
    objective = rosenbrock(lower, upper, parameters)
    random = torch.Generator().manual_seed(parameters)
    start = lower + (upper - lower) * torch.rand(1, parameters, generator=random, dtype=torch.float64)
    lowest = minimize(objective, start, lambda p, o: BoundedLBFGS(p, o, stopping=TIGHT), max_iters=2000).loss
    target = lowest + 1e-5 * (objective.loss(start) - lowest)
    solver = BoundedLBFGS([nn.Parameter(start)], objective)
    while not solver.loss <= target:
        solver.step()
    assert solver.evaluations["gradients"] <= 1.1 * scipy


def test_the_first_step_of_lbfgs_has_length_one():
    theta = nn.Parameter(real(3.0, 4.0)[None])
    BoundedLBFGS([theta], LeastSquares(lambda theta: 100 * theta)).step()
    torch.testing.assert_close(theta.detach(), real(3.0, 4.0)[None] * 0.8)


def test_quasi_newton_linearizes_once_where_the_model_holds():
    matrix, right = draw(20, 6, seed=1), draw(20, seed=2)
    objective = LeastSquares(lambda theta: theta @ matrix.T + 0.01 * (theta @ matrix.T) ** 2 - right)
    solution = minimize(objective, torch.zeros(1, 6, dtype=torch.float64), QuasiNewton)
    assert solution.evaluations["linearizations"] == 1
    assert solution.evaluations["gradients"] <= 12


def test_quasi_newton_linearizes_anew_with_more_damping_where_a_step_must_be_cut():
    # far out on the tanh the Gauss-Newton matrix sees almost no curvature and asks for a step of about a thousand
    solution = minimize(LeastSquares(lambda theta: torch.tanh(5 * theta) - 0.5), real(1.0)[None], QuasiNewton)
    assert solution.status.startswith("converged")
    torch.testing.assert_close(solution.theta, torch.atanh(real(0.5))[None] / 5, rtol=1e-4, atol=0)
    assert solution.evaluations["linearizations"] > 1


def test_the_damped_update_satisfies_the_secant_equation_where_curvature_is_plain():
    square = draw(3, 5, 5, seed=3)
    old, step = square @ square.mT, draw(3, 5, seed=4)
    change = 2 * (old @ step[..., None])[..., 0] + 0.1 * step
    new = damped_update(old, step, change)
    torch.testing.assert_close((new @ step[..., None])[..., 0], change)


def test_the_damped_update_stays_positive_definite_where_curvature_is_negative():
    square = draw(3, 5, 5, seed=5)
    old, step = square @ square.mT, draw(3, 5, seed=6)
    assert torch.linalg.eigvalsh(damped_update(old, step, -step)).min() > 0


@pytest.mark.parametrize("solver", [BoundedLBFGS, QuasiNewton])
def test_a_wrong_gradient_ends_as_stuck(solver):
    class Lying(LeastSquares):
        def gradient(self, theta, members=None):
            loss, gradient = super().gradient(theta)
            return loss, -gradient

        def linearize(self, theta, members=None):
            linear = super().linearize(theta)
            return type(linear)(linear.loss, -linear.gradient, linear.curvature)

    start = torch.ones(1, 2, dtype=torch.float64)
    solution = minimize(Lying(lambda theta: theta), start, lambda p, o: solver(p, o, search=6, stopping=Stopping()))
    assert torch.equal(solution.theta, start)
    assert solution.status == "stuck after 0 iterations: no trial step lowered the loss"
    # the damping went from 0.1 to a million by factors of ten before the member was given up
    assert solution.evaluations["linearizations"] == (8 if solver is QuasiNewton else 0)
