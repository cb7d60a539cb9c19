"""Where a fit starts: draws, the first years alone, halving."""

from __future__ import annotations

from dataclasses import replace

import torch

from lit_invert.losses import Misfit, Prior
from lit_invert.problem import InversionProblem
from lit_invert.problem_objective import ProblemObjective
from lit_invert.solvers import LevenbergMarquardt
from lit_invert.starting import COARSE_STEPS, STEPS_A_ROUND, coarse_days, draw_starts, find_start, halve
from lit_invert.testing import toy_problem


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def masked(problem, mask):
    return InversionProblem(problem.surrogate, problem.space, problem.forcing, problem.observed, mask, problem.loss_terms)


class Counting(InversionProblem):
    """Counts the members that are linearised."""

    linearized = 0

    def push(self, theta, members=None):
        self.linearized += len(theta)
        return super().push(theta, members)


def test_starts_are_the_prior_and_draws_from_it_inside_the_bounds():
    space = toy_problem().space
    starts = draw_starts(space, 2000, generator())
    assert torch.equal(starts[0], space.to_theta(space.prior))
    physical = space.to_physical(starts)
    assert torch.equal(space.bounds.clip(physical), physical)
    wide = draw_starts(toy_problem().space, 2000, generator(1))
    assert not torch.equal(starts[1:], wide[1:])
    assert torch.equal(starts, draw_starts(space, 2000, generator()))
    middle = starts[1:].median(0).values
    assert ((middle - starts[0]).abs() < 0.1 * space.prior_sd_scaled).all()  # 1.25 / sqrt(2000) is 0.03 sd


def test_the_first_days_hold_a_share_of_the_observations_and_a_year():
    problem = toy_problem(n_days=2000)
    mask = torch.ones_like(problem.mask)
    assert coarse_days(masked(problem, mask), "nep") == [600]
    mask[:, :900] = False  # 1,100 observed days, three tenths of them by day 900 + 330
    assert coarse_days(masked(problem, mask), "nep") == [None]
    mask[:, 1000:] = False
    mask[:, 500:900] = True  # 500 observed days from day 500 on
    mask[:, :, 0] = True  # days of another flux do not count
    assert coarse_days(masked(problem, mask), "nep") == [650]
    assert coarse_days(toy_problem(n_days=700), "nep") == [None]  # a year would be more than half of it
    whole = masked(problem, torch.ones_like(problem.mask))
    whole.surrogate.spec = replace(whole.surrogate.spec, fixed_length=2000)
    assert coarse_days(whole, "nep") == [None]


def test_the_first_days_are_the_whole_problem_cut_short():
    problem = toy_problem(n_days=800, terms=[Misfit(), Prior(weight=0.1)])
    theta = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64)
    short = problem.first(400)
    torch.testing.assert_close(short.simulate(theta), problem.simulate(theta)[:, :400])
    alone = InversionProblem(
        problem.surrogate,
        problem.space,
        problem.forcing[:, :400],
        problem.observed[:, :400],
        problem.mask[:, :400],
        problem.loss_terms,
    )
    torch.testing.assert_close(short(theta).total, alone(theta).total)
    assert problem.observed.shape[1] == 800


def test_steps_on_the_first_days_come_first_and_are_told():
    problem = toy_problem(n_days=2000, terms=[Misfit(), Prior(weight=1e-3)])
    objective = ProblemObjective(problem)
    prior = draw_starts(problem.space, 1, generator())
    theta, how = find_start(objective, LevenbergMarquardt, prior)
    assert objective.loss(theta).item() < 0.1 * objective.loss(prior).item()
    assert how.endswith("steps on the first 600 days before")
    assert 1 <= int(how.split()[0]) <= COARSE_STEPS
    same, silent = find_start(objective, LevenbergMarquardt, prior, coarse=False)
    assert torch.equal(same, prior)
    assert silent == ""


def test_halving_leaves_the_best_basin_for_less_than_all_its_starts():
    problem = toy_problem(terms=[Misfit(), Prior(weight=1e-3)])
    problem.__class__ = Counting
    objective = ProblemObjective(problem)
    starts = draw_starts(objective.problem.space, 8, generator())
    starts[5:] = 50.0 * starts[5:]  # far outside; their first step is a projection
    left = halve(objective, starts[None], LevenbergMarquardt)
    assert left.shape == (1, 3)
    assert 0 < problem.linearized <= STEPS_A_ROUND * (8 + 4 + 2)
    assert objective.loss(left).item() <= objective.loss(starts[:1]).item()
    _, how = find_start(objective, LevenbergMarquardt, starts)
    assert how == "best of 8 starts"
