"""The function of the shared values: differences, closed forms, and every solver."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lit_invert.errors import ConfigError, ShapeError
from lit_invert.losses import Boundary, LossTerm, Misfit, Prior
from lit_invert.parameters import parse_parameter_table
from lit_invert.sharing import SharedObjective, fit_shared
from lit_invert.sharing.objective import eliminate
from lit_invert.solvers import BoundedLBFGS, LeastSquares, LevenbergMarquardt, QuasiNewton, Stopping, minimize
from lit_invert.transforms import SigmoidTransform
from tests.sharing.towers import plan_of, toy_sites

GROUPS = list("aabbab")
TRUTH = torch.tensor([0.4, -0.3, 0.2]) + 0.5 * torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
GAMMA = torch.tensor([[0.2, -0.3, 0.4]], dtype=torch.float64)
TERMS = [Misfit(), Prior(weight=0.02)]


class Quartic(LossTerm):
    """No sum of squares: it has a gradient and no residuals."""

    name = "quartic"

    def forward(self, evaluation):
        return evaluation.scaled.pow(4).sum(-1)


def difference(function, at, step=1e-4):
    """Central differences of a function along each component, stacked."""
    unit = step * torch.eye(len(at), dtype=at.dtype)
    return torch.stack([function(at + e) - function(at - e) for e in unit]) / (2 * step)


def loss_of(problem, plan):
    """The loss of shared values, from the priors of the sites each time."""
    return lambda gamma: SharedObjective(problem, plan).loss(gamma[None])[0]


def slope_of(problem, plan):
    return lambda gamma: SharedObjective(problem, plan).linearize(gamma[None]).gradient[0]


@pytest.mark.parametrize("kinds", [["global", "group", "site"], ["global", "global", "global"], ["group", "site", "site"]])
@pytest.mark.parametrize("transform", [None, SigmoidTransform])
def test_gradient_and_curvature_are_those_of_the_best_that_sites_can_do(kinds, transform):
    problem = toy_sites(TRUTH, noise=0.0 if transform else 0.3, terms=TERMS, **({"transform": transform} if transform else {}))
    plan = plan_of(kinds, GROUPS)
    at = GAMMA[0, : plan.size]
    gradient = difference(loss_of(problem, plan), at)
    linear = SharedObjective(problem, plan).linearize(at[None])
    torch.testing.assert_close(linear.gradient[0], gradient, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(SharedObjective(problem, plan).gradient(at[None])[1][0], gradient, rtol=1e-4, atol=1e-6)
    if transform is None:  # the toy is linear in its scaled parameters, and Gauss-Newton is exact
        torch.testing.assert_close(linear.curvature[0], difference(slope_of(problem, plan), at), rtol=1e-5, atol=1e-6)


def test_a_parameter_on_its_bound_does_not_follow():
    rows = ["name,prior,min,max", "s1,2,0.5,3.5", "s2,2,0.5,3.5", "s3,2,1.99,2.01"]  # the truth of s3 is beyond its bounds
    table = parse_parameter_table(rows)
    problem, plan = toy_sites(TRUTH, table=table), plan_of(["global", "group", "site"], GROUPS, table)
    objective = SharedObjective(problem, plan)
    theta = objective.settle(GAMMA)
    assert bool((theta[:, 2].abs() - 0.02 < 1e-9).all())
    hessian = difference(slope_of(problem, plan), GAMMA[0])
    torch.testing.assert_close(objective.linearize(GAMMA).curvature[0], hessian, rtol=1e-5, atol=1e-6)


def test_elimination_is_the_block_inverse():
    root = torch.randn(5, 7, 4, dtype=torch.float64)
    curvature, gradient = root.mT @ root, torch.randn(5, 4, dtype=torch.float64)
    free = torch.tensor([[True, False, True, False]]).expand(5, -1)
    reduced, kept = eliminate(gradient, curvature, free), [1, 3]
    inverse = torch.linalg.inv(curvature)[:, kept][:, :, kept]
    torch.testing.assert_close(reduced.curvature[:, kept][:, :, kept], torch.linalg.inv(inverse))
    step = -torch.linalg.solve(curvature, gradient)
    torch.testing.assert_close((reduced.curvature @ step[..., None])[..., 0][:, kept], -reduced.gradient[:, kept])


def stacked_minimum(problem, plan):
    """All shared and local parameters as one vector, by a solver that knows no sharing."""
    places = [p for p, shared in enumerate(plan.is_shared.tolist()) if not shared]

    def residuals(vector):
        parts = []
        for one in vector:
            local = torch.zeros(plan.sites, len(plan.names), dtype=one.dtype)
            local[:, places] = one[plan.size :].reshape(plan.sites, -1)
            theta = plan.spread(one[: plan.size], local)
            evaluation = problem.evaluate(theta)
            prior = problem.loss_terms[1]
            fit = problem.loss_terms[0].residuals(evaluation).flatten()
            parts.append(torch.cat([fit, prior.weight**0.5 * one[: plan.size], (prior.weight**0.5 * local[:, places]).flatten()]))
        return torch.stack(parts)

    start = torch.zeros(1, plan.size + plan.sites * len(places), dtype=torch.float64)
    exact = Stopping(gradient=1e-9, step=1e-12, loss=1e-15)
    return minimize(LeastSquares(residuals), start, partial(LevenbergMarquardt, stopping=exact))


@pytest.mark.parametrize("build", [LevenbergMarquardt, BoundedLBFGS, QuasiNewton])
def test_every_solver_finds_the_minimum_of_all_parameters_at_once(build):
    problem, plan = toy_sites(TRUTH, noise=0.3, terms=TERMS), plan_of(["global", "group", "site"], GROUPS)
    found, expected = fit_shared(problem, plan, build=build), stacked_minimum(problem, plan)
    torch.testing.assert_close(found.gamma, expected.theta[0, : plan.size], rtol=0, atol=2e-5)
    torch.testing.assert_close(found.theta[:, 2], expected.theta[0, plan.size :], rtol=0, atol=2e-5)
    assert found.loss.sum().item() == pytest.approx(expected.loss.item(), rel=1e-8)


def test_sites_without_anything_in_common_are_fitted_alone():
    problem = toy_sites(TRUTH)
    found = fit_shared(problem, plan_of(["site"] * 3, GROUPS))
    torch.testing.assert_close(found.theta, TRUTH.double(), rtol=0, atol=1e-5)


def test_some_sites_of_a_problem_are_fitted_as_if_there_were_no_others():
    problem, some = toy_sites(TRUTH, noise=0.3, terms=TERMS), torch.tensor([4, 0, 3])
    few = type(problem)(problem.surrogate, problem.space, problem.forcing[some], problem.observed[some], problem.mask[some], TERMS)
    plan = plan_of(["global", "group", "site"], ["a", "a", "b"])
    among, alone = fit_shared(problem, plan, sites=some), fit_shared(few, plan)
    torch.testing.assert_close(among.theta, alone.theta, rtol=0, atol=1e-9)


def test_a_term_without_residuals_is_minimised_as_well():
    problem = toy_sites(TRUTH, noise=0.3, terms=[Misfit(), Quartic(0.05), Boundary(0.3, weight=0.1)])
    plan = plan_of(["global", "group", "site"], GROUPS)
    found = fit_shared(problem, plan)
    here, away = (difference(loss_of(problem, plan), gamma).norm() for gamma in (found.gamma, torch.zeros(3).double()))
    assert here < 1e-3 * away  # where the gradient test ends: a hundred-thousandth of the root of loss times curvature


def test_float32_finds_what_float64_finds():
    plan = plan_of(["global", "group", "site"], GROUPS)
    single, double = (fit_shared(toy_sites(TRUTH, dtype=d, terms=TERMS), plan) for d in (torch.float32, torch.float64))
    assert single.theta.dtype == torch.float32
    torch.testing.assert_close(single.theta.double(), double.theta, rtol=0, atol=1e-3)


def test_what_does_not_fit_together_is_refused():
    problem = toy_sites(TRUTH)
    with pytest.raises(ShapeError, match=r"the plan has 2 sites, the problem 6"):
        SharedObjective(problem, plan_of(["global"] * 3, ["a", "b"]))
    table = parse_parameter_table(["name,prior,min,max", "s1,2,0.5,s2", "s2,2,1,3.5", "s3,2,0.5,3.5"])
    with pytest.raises(ConfigError, match=r"bounds that name other parameters.* Use `constraints.transform: sigmoid`"):
        SharedObjective(toy_sites(TRUTH, table=table), plan_of(["site"] * 3, GROUPS, table))
