"""Points of the prior follow the truncated prior, points of the box stay in it, and edges are where they are said to be."""

from __future__ import annotations

import torch
from lit_invert_invariance.points import box_points, corner_points, edge_points, prior_point, prior_points
from scipy import stats

from lit_invert.parameters import ParameterSpace, parse_parameter_table
from lit_invert.testing import toy_problem
from lit_invert.transforms import Bounds, ScaledTransform


def problem_of(*rows):
    """Return a toy whose table has these rows; scaled = (physical - 2) / 0.5."""
    problem = toy_problem(len(rows))
    table = parse_parameter_table(["name,unit,prior,prior_sd,min,max,fixed", *rows], "table")
    problem.space = ParameterSpace(table, ScaledTransform(problem.surrogate.static_scaler, table.bounds))
    return problem


def test_the_prior_is_truncated_and_not_heaped_on_its_bounds():
    drawn = prior_points(problem_of("a,-,2.0,0.5,1.75,3.0,"), 4000, seed=0)[:, 0].numpy()
    assert stats.kstest(drawn, stats.truncnorm(-0.5, 2.0).cdf).pvalue > 0.05


def test_the_box_is_filled_evenly():
    drawn = box_points(problem_of("a,-,2.0,0.5,1.75,3.0,"), 4000, seed=0)[:, 0].numpy()
    assert stats.kstest(drawn, stats.uniform(-0.5, 2.5).cdf).pvalue > 0.05


def test_corners_are_on_the_bounds():
    corners = corner_points(problem_of("a,-,2.0,0.5,1.75,3.0,", "b,-,2.0,0.5,1.0,4.0,"), 200, seed=0)
    assert {tuple(point) for point in corners.tolist()} == {(a, b) for a in (-0.5, 2.0) for b in (-2.0, 4.0)}


def test_a_seed_gives_the_same_points_and_another_one_others():
    problem = toy_problem()
    assert torch.equal(prior_points(problem, 3, seed=1), prior_points(problem, 3, seed=1))
    assert not torch.equal(prior_points(problem, 3, seed=1), prior_points(problem, 3, seed=2))


def test_a_fixed_parameter_stays_at_its_prior():
    problem = problem_of("a,-,2.5,0.5,1.0,4.0,true", "b,-,2.0,0.5,1.0,4.0,")
    for points in (prior_points(problem, 9, 0), box_points(problem, 9, 0), corner_points(problem, 9, 0), edge_points(problem, 0.0)):
        assert points[:, 0].tolist() == [1.0] * len(points)


def test_a_bound_that_names_another_parameter_holds():
    problem = problem_of("a,-,2.0,0.5,1.0,b,", "b,-,2.5,0.5,1.0,4.0,")
    for points in (prior_points(problem, 50, 0), box_points(problem, 50, 0), corner_points(problem, 50, 0)):
        assert (points[:, 0] <= points[:, 1]).all()


def test_without_a_bound_the_box_ends_at_three_standard_deviations():
    problem = problem_of("a,-,2.0,0.25,1.0,3.0,")
    far = torch.tensor([torch.inf], dtype=torch.float64)
    problem.space = ParameterSpace(problem.space.table, ScaledTransform(problem.surrogate.static_scaler, Bounds(-far, far)))
    assert edge_points(problem, 0.0).flatten().tolist() == [-1.5, 1.5]
    assert torch.isfinite(prior_points(problem, 100, seed=0)).all()


def test_edges_move_one_parameter_at_a_time():
    problem = toy_problem(2)
    assert prior_point(problem).tolist() == [[0.0, 0.0]]
    assert edge_points(problem, 0.0).tolist() == [[-3.0, 0.0], [0.0, -3.0], [3.0, 0.0], [0.0, 3.0]]
    torch.testing.assert_close(edge_points(problem, 0.01)[0, 0].item(), -3.0 + 0.01 * 6.0, rtol=0, atol=1e-14)
