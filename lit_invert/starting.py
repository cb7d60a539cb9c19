"""Where a fit starts: at the prior, from several places at once, and coarse to fine.

A long record says most of what it has to say in its first years, so the first steps are taken there, at a fraction of the price.
Several starts run as one batch; after every few steps the worse half is dropped (successive halving), so that eight of them cost
little more than two.

Source:
    Jamieson and Talwalkar (2016), Non-stochastic best arm identification and hyperparameter optimization, AISTATS, for halving.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from .objective import Objective
from .parameters import ParameterSpace
from .problem import InversionProblem
from .problem_objective import ProblemObjective
from .solvers.minimize import BuildSolver, minimize

#: Share of the observed days that the coarse problem has.
COARSE_SHARE = 0.3
#: Fewest days of it: a whole year.
COARSE_DAYS = 365
#: The coarse problem is left when a step lowers its loss by less than this share.
COARSE_TOLERANCE = 0.1
#: Most steps there.
COARSE_STEPS = 6
#: Steps of each start between two halvings.
STEPS_A_ROUND = 2


def draw_starts(space: ParameterSpace, count: int, generator: Generator) -> Tensor:
    """Return the prior and draws from it, inside the bounds.

    Args:
        space: Parameters and their spaces.
        count: Number of starts.
        generator: Source of randomness, on the CPU.

    Returns:
        A (count, P)-dim tensor in the optimiser's coordinates; its first row is the prior.
    """
    prior = space.scaler.to_scaled(space.prior)
    noise = torch.randn(count, len(prior), generator=generator, dtype=torch.float64).to(prior)
    noise[0] = 0.0
    noise[:, space.fixed] = 0.0
    physical = space.bounds.clip(space.scaler.to_physical(prior + noise * space.prior_sd_scaled))
    physical[0] = space.prior
    return space.to_theta(physical)


def coarse_days(problem: InversionProblem, target: str) -> int | None:
    """Return how many days hold a first share of the target's observations.

    None where that would save too little, and where the surrogate cannot be run for fewer days: one of fixed length, or of windows.
    """
    spec = problem.surrogate.spec
    if spec.fixed_length is not None or isinstance(problem.forcing, dict):
        return None
    observed = problem.mask[..., spec.output_names.index(target)].any(0).cumsum(0)
    enough = max(1, math.ceil(COARSE_SHARE * observed[-1].item()))
    days = max(COARSE_DAYS, int((observed >= enough).nonzero()[0]) + 1)
    return days if 2 * days <= len(observed) else None


def find_start(
    objective: ProblemObjective, build: BuildSolver, theta: Tensor, target: str = "nep", coarse: bool = True
) -> tuple[Tensor, str]:
    """Find where the fit of one member starts.

    Args:
        objective: The whole problem.
        build: The solver.
        theta: Places to start from, (S, P), of which halving leaves one.
        target: The flux that is fitted.
        coarse: Whether the first steps are taken on the first years alone, where the record is long enough.

    Returns:
        Theta, (1, P), and how it was found, in words; empty where it was given.
    """
    problem = objective.problem
    days = coarse_days(problem, target) if coarse else None
    first = ProblemObjective(problem if days is None else problem.first(days), objective.is_bounded)
    how = []
    if len(theta) > 1:
        how.append(f"best of {len(theta)} starts")
        finite = first.loss(theta).isfinite()
        finite[0] = True  # if the prior's is not, the solver says so
        theta = halve(first, theta[finite], build)
    if days is not None:
        theta, steps = descend(first, theta, build)
        how.append(f"{steps} steps on the first {days} days before")
    return theta, ", ".join(how)


def descend(objective: Objective, theta: Tensor, build: BuildSolver) -> tuple[Tensor, int]:
    """Step as long as a step gains much.

    Args:
        objective: The coarse problem.
        theta: Starts, (B, P).
        build: The solver.

    Returns:
        Where it led, (B, P), and the number of steps.
    """
    parameter = nn.Parameter(theta.clone())
    solver = build([parameter], objective)
    before = torch.full(theta.shape[:1], math.inf, dtype=torch.float64)
    for _ in range(COARSE_STEPS):
        solver.step()
        loss = solver.loss
        if solver.finished or bool((before - loss <= COARSE_TOLERANCE * loss.abs()).all()):
            break
        before = loss
    return parameter.detach(), solver.iterations


def halve(objective: Objective, theta: Tensor, build: BuildSolver) -> Tensor:
    """Drop the worse half of the starts after every few steps until one is left.

    Args:
        objective: A problem whose members share observations and forcing.
        theta: Starts, a (S, P)-dim tensor.
        build: The solver.

    Returns:
        The start that is left, where its steps have led it, (1, P).
    """
    while len(theta) > 1:
        found = minimize(objective, theta, build, max_iters=STEPS_A_ROUND)
        order = found.loss.argsort()  # NaN is last
        theta = found.theta[order[: (len(theta) + 1) // 2]]
    return theta
