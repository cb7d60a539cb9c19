"""The step in a box against every possible active set, and each metric against its matrix."""

from __future__ import annotations

import itertools

import pytest
import torch

from lit_invert.solvers.box import Dense, step_in_box
from lit_invert.solvers.lbfgs import Compact
from tests.solvers.problems import draw


def random_matrices(batch, parameters, seed):
    square = draw(batch, parameters, parameters, seed=seed)
    return square @ square.mT + 0.01 * torch.eye(parameters, dtype=torch.float64)


def lowest_by_enumeration(matrix, gradient, lower, upper):
    best, lowest = None, torch.inf
    for places in itertools.product((-1, 0, 1), repeat=len(gradient)):
        place = torch.tensor(places)
        step = torch.where(place < 0, lower, upper)
        free = place == 0
        step[free] = torch.linalg.solve(matrix[free][:, free], -gradient[free] - matrix[free][:, ~free] @ step[~free])
        value = gradient @ step + step @ matrix @ step / 2
        if (step >= lower).all() and (step <= upper).all() and value < lowest:
            best, lowest = step, value
    return best


@pytest.mark.parametrize("seed", range(8))
def test_the_step_is_the_lowest_point_of_the_model_in_the_box(seed):
    matrix, gradient = random_matrices(6, 5, seed), 3 * draw(6, 5, seed=seed + 100)
    lower, upper = -draw(6, 5, seed=seed + 200).abs(), draw(6, 5, seed=seed + 300).abs()
    lower[:, 0] = 0.0  # a start that rests on a bound
    step = step_in_box(Dense(matrix), gradient, lower, upper)
    expected = torch.stack([lowest_by_enumeration(*member) for member in zip(matrix, gradient, lower, upper, strict=True)])
    torch.testing.assert_close(step, expected, rtol=0, atol=1e-9)


def test_without_bounds_it_is_the_newton_step():
    matrix, gradient = random_matrices(3, 36, 1), draw(3, 36, seed=2)
    infinite = torch.full_like(gradient, torch.inf)
    torch.testing.assert_close(step_in_box(Dense(matrix), gradient, -infinite, infinite), -torch.linalg.solve(matrix, gradient))


@pytest.mark.parametrize("seed", range(3))
def test_36_coordinates_in_a_tight_box_satisfy_the_optimality_conditions(seed):
    matrix, gradient = random_matrices(16, 36, seed), 10 * draw(16, 36, seed=seed + 10)
    upper = draw(16, 36, seed=seed + 20).abs()
    step = step_in_box(Dense(matrix), gradient, -upper, upper)
    slope = gradient + (matrix @ step[..., None])[..., 0]
    inside = step.abs() < upper
    assert 0.1 < inside.double().mean() < 0.9
    torch.testing.assert_close(slope[inside], torch.zeros_like(slope[inside]), rtol=0, atol=1e-8)
    assert (slope[step == upper] <= 0).all()
    assert (slope[step == -upper] >= 0).all()


def test_a_matrix_that_is_not_positive_definite_gives_no_step_and_leaves_the_others_theirs():
    good = random_matrices(1, 4, 5)
    gradient, infinite = draw(2, 4, seed=6), torch.full((2, 4), torch.inf, dtype=torch.float64)
    step = step_in_box(Dense(torch.cat([-good, good])), gradient, -infinite, infinite)
    assert torch.equal(step[0], torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(step[1:], -torch.linalg.solve(good, gradient[1:]))


def test_the_compact_form_is_the_bfgs_matrix_of_its_pairs():
    batch, pairs, parameters = 3, 4, 7
    hessian, steps = random_matrices(batch, parameters, 7), draw(batch, pairs, parameters, seed=8)
    changes = steps @ hessian
    root = (steps * changes).sum(-1, keepdim=True).sqrt()
    steps, changes = steps / root, changes / root
    sigma = torch.tensor([0.5, 1.0, 7.0], dtype=torch.float64)
    matrix = torch.diag_embed(sigma[:, None].expand(batch, parameters))
    for s, y in zip(steps.unbind(1), changes.unbind(1), strict=True):
        product = (matrix @ s[..., None])[..., 0]
        shrink = (s * product).sum(-1)[:, None, None]
        matrix = matrix + y[:, :, None] * y[:, None] - product[:, :, None] * product[:, None] / shrink
    unused = torch.zeros(batch, 2, parameters, dtype=torch.float64)
    compact = Compact(torch.cat([unused, steps], 1), torch.cat([unused, changes], 1), sigma)
    vector = draw(batch, parameters, seed=9)
    torch.testing.assert_close(compact.multiply(vector), (matrix @ vector[..., None])[..., 0])
    torch.testing.assert_close(compact.diagonal(), matrix.diagonal(dim1=-2, dim2=-1))
    free = draw(batch, parameters, seed=10) > 0
    torch.testing.assert_close(compact.solve(vector, free), Dense(matrix).solve(vector, free), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(compact.solve(vector), Dense(matrix).solve(vector), rtol=1e-9, atol=1e-9)
