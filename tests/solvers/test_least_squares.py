"""Derivatives of plain functions, with and without automatic differentiation."""

from __future__ import annotations

import pytest
import torch

from lit_invert.solvers import LeastSquares, minimize
from tests.solvers.problems import SOLVERS, draw, real, rosenbrock


def by_numpy(theta):
    values = theta.detach().numpy()
    return torch.from_numpy(values[:, :2] ** 3 * values[:, 1:] - 1.0)


def by_numpy_alone(theta):
    return torch.from_numpy(theta.numpy()[:, :2] ** 3 * theta.numpy()[:, 1:] - 1.0)


def by_torch(theta):
    return theta[:, :2] ** 3 * theta[:, 1:] - 1.0


def test_derivatives_are_those_of_float64_central_differences():
    objective, theta = rosenbrock(), draw(3, 4, seed=1)
    loss, gradient = objective.gradient(theta)
    linear = objective.linearize(theta)
    width = 1e-6
    for parameter, direction in enumerate(torch.eye(4, dtype=torch.float64)):
        ahead, behind = theta + width * direction, theta - width * direction
        slope = (objective.loss(ahead) - objective.loss(behind)) / (2 * width)
        # the third derivative, of order 1,000, times the width squared
        torch.testing.assert_close(gradient[:, parameter], slope, rtol=1e-7, atol=1e-6)
        column = (objective.residuals(ahead) - objective.residuals(behind)) / (2 * width)
        torch.testing.assert_close(objective.jacobian(theta)[:, :, parameter], column, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(linear.loss, loss)
    torch.testing.assert_close(linear.gradient, gradient)
    jacobian = objective.jacobian(theta)
    torch.testing.assert_close(linear.curvature, 2 * jacobian.mT @ jacobian)


@pytest.mark.parametrize("function", [by_numpy, by_numpy_alone])
def test_a_function_that_torch_cannot_differentiate_gets_differences(function):
    theta = draw(3, 3, seed=2)
    black_box, open_box = LeastSquares(function), LeastSquares(by_torch)
    # central differences with the cube root of rounding as their width are good to about ten digits
    torch.testing.assert_close(black_box.jacobian(theta), open_box.jacobian(theta), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(black_box.gradient(theta), open_box.gradient(theta), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_minimises_a_function_of_numpy(solver):
    # two equations in three unknowns: any point of a curve solves them
    start = real(2.0, 0.5, 1.5)[None]
    theta = minimize(LeastSquares(by_numpy_alone), start, solver).theta
    torch.testing.assert_close(by_torch(theta), torch.zeros(1, 2, dtype=torch.float64), rtol=0, atol=1e-5)


def test_a_fault_of_the_function_itself_is_not_hidden():
    with pytest.raises(RuntimeError, match="size of tensor"):
        LeastSquares(lambda theta: theta - torch.zeros(2)).gradient(draw(3, 3, seed=2))


def test_one_bound_may_be_missing():
    objective = LeastSquares(lambda theta: theta - 2, upper=real(1.0, 3.0))
    lower, upper = objective.bounds(torch.zeros(2, 2, dtype=torch.float64))
    assert lower.isneginf().all()
    assert torch.equal(upper, real(1.0, 3.0).expand(2, 2))
    assert torch.equal(objective.project(real(5.0, -8.0)[None]), real(1.0, -8.0)[None])
