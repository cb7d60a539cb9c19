"""Where the Gauss-Newton matrix is blind, the first step has length one; where it sees, nothing changes."""

from __future__ import annotations

import torch

from lit_invert.solvers.unseen import lift_unseen
from tests.solvers.problems import draw, real


def test_a_matrix_that_sees_every_parameter_is_left_as_it_is():
    square = draw(3, 6, 5, seed=1)
    hessian = square.mT @ square
    assert torch.equal(lift_unseen(hessian, 1e6 * draw(3, 5, seed=2)), hessian)


def test_unseen_parameters_go_a_distance_of_one_down_their_slope():
    column = draw(2, 7, 1, seed=3)
    hessian = torch.zeros(2, 4, 4, dtype=torch.float64)
    hessian[:, :1, :1] = column.mT @ column
    gradient = 50 * draw(2, 4, seed=4)
    step = -torch.linalg.solve(lift_unseen(hessian, gradient), gradient)
    torch.testing.assert_close(step[:, 0], -gradient[:, 0] / hessian[:, 0, 0])
    torch.testing.assert_close(step[:, 1:], -torch.nn.functional.normalize(gradient[:, 1:]))


def test_a_negative_curvature_is_lifted_and_a_member_without_a_slope_is_not():
    hessian = torch.diag(real(-3.0, 2.0)).expand(2, 2, 2)
    lifted = lift_unseen(hessian, torch.stack([real(0.5, 7.0), real(0.0, 0.0)]))
    assert torch.equal(lifted.diagonal(dim1=1, dim2=2), torch.stack([real(0.5, 2.0), real(0.0, 2.0)]))
