"""Where a fit starts: at the prior, from several places at once, and coarse to fine.

A long record says most of what it has to say in its first years, so the first steps are taken there, at a fraction of the price.
Several starts run as one batch; after every few steps the worse half is dropped (successive halving), so that eight of them cost
little more than two; or all of them run to their end. Many sites go the same way at once, each by its own days, its own halves and
its own steps.

Source:
    Jamieson and Talwalkar (2016), Non-stochastic best arm identification and hyperparameter optimization, AISTATS, for halving.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .objective import Objective
from .problem import InversionProblem
from .problem_objective import ProblemObjective
from .solvers.minimize import BuildSolver, minimize
from .start_journal import Journal

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


def coarse_days(problem: InversionProblem, target: str) -> list[int | None]:
    """Return for each member how many days hold a first share of the target's observations.

    None where that would save too little, and where the surrogate cannot be run for fewer days: one of fixed length, or of windows.
    """
    spec, mask = problem.surrogate.spec, problem.mask[..., problem.surrogate.spec.output_names.index(target)]
    if spec.fixed_length is not None or isinstance(problem.forcing, dict):
        return [None] * len(mask)
    observed = mask.cumsum(-1)
    enough = (COARSE_SHARE * observed[:, -1]).ceil().clamp_min(1)
    days = ((observed >= enough[:, None]).to(torch.uint8).argmax(-1) + 1).clamp_min(max(COARSE_DAYS, spec.shortest_run))
    lengths = (problem.days * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(-1).expand(len(mask))
    return [first if 2 * first <= length else None for first, length in zip(days.tolist(), lengths.tolist(), strict=True)]


def find_start(
    objective: ProblemObjective, build: BuildSolver, theta: Tensor, target: str = "nep", coarse: bool = True
) -> tuple[Tensor, str]:
    """Find where the fit of one member starts.

    Args:
        objective: The whole problem.
        build: The solver.
        theta: Places to start from, (N, P), of which halving leaves one.
        target: The flux that is fitted.
        coarse: Whether the first steps are taken on the first years alone, where the record is long enough.

    Returns:
        Theta, (1, P), and how it was found, in words; empty where it was given.
    """
    found, how = find_starts(objective, build, theta.unsqueeze(0), target, coarse)
    return found, how[0]


def find_starts(
    objective: ProblemObjective,
    build: BuildSolver,
    theta: Tensor,
    target: str = "nep",
    coarse: bool = True,
    journal: Journal | None = None,
) -> tuple[Tensor, list[str]]:
    """Find where the fits of S sites start, each as if it were alone.

    Args:
        objective: The problem of all sites.
        build: The solver.
        theta: Places to start from, (S, N, P); the first of each site is its prior.
        target: The flux that is fitted.
        coarse: Whether the first steps are taken on the first years alone, where a record is long enough.
        journal: Notes what becomes of the starts, of one site.

    Returns:
        Theta, (S, P), and how each was found, in words; empty where it was given.
    """
    problem, sites = objective.problem, theta.shape[0]
    days = coarse_days(problem, target) if coarse else [None]
    days = days if len(days) == sites else days * sites
    found, how = theta[:, 0].clone(), [""] * sites
    for is_coarse in (True, False):
        chosen = [i for i in range(sites) if (days[i] is not None) == is_coarse]
        if not chosen or not (is_coarse or theta.shape[1] > 1):
            continue
        first = problem
        if is_coarse:
            known = [own for own in days if own is not None]
            first = problem.first([own or min(known) for own in days[: len(problem.mask)]])
        rows = torch.tensor(chosen, device=theta.device)
        few = ProblemObjective(first, objective.is_bounded, None if len(chosen) == sites else rows)
        best = halve(few, theta[rows], build, journal)
        steps = None
        if is_coarse:
            best, steps = descend(few, best, build)
            if journal is not None:
                journal.steps[journal.kept] += steps[0]
        found[rows] = best
        for place, i in enumerate(chosen):
            how[i] = _in_words(theta.shape[1], None if steps is None else steps[place], days[i])
    return found, how


def _in_words(starts: int, steps: int | None, days: int | None) -> str:
    how = [f"best of {starts} starts"] if starts > 1 else []
    if steps is not None:
        how.append(f"{steps} steps on the first {days} days before")
    return ", ".join(how)


def descend(objective: Objective, theta: Tensor, build: BuildSolver) -> tuple[Tensor, list[int]]:
    """Step each member as long as a step gains it much.

    Args:
        objective: The coarse problem.
        theta: Starts, (B, P).
        build: The solver.

    Returns:
        Where it led, (B, P), and the number of steps of each.
    """
    parameter = nn.Parameter(theta.clone())
    solver = build([parameter], objective)
    before = torch.full(theta.shape[:1], math.inf, dtype=torch.float64, device=theta.device)
    for _ in range(COARSE_STEPS):
        solver.step()
        loss = solver.loss
        solver.leave(before - loss <= COARSE_TOLERANCE * loss.abs())
        if solver.finished:
            break
        before = loss
    return parameter.detach(), solver.steps.tolist()


def halve(objective: ProblemObjective, theta: Tensor, build: BuildSolver, journal: Journal | None = None) -> Tensor:
    """Drop the worse half of each site's starts after every few steps until one is left.

    Args:
        objective: The problem of S sites.
        theta: Starts of each, a (S, N, P)-dim tensor; the first is used in place of one whose loss is not finite.
        build: The solver.
        journal: Notes what becomes of the starts, of one site.

    Returns:
        The start of each site that is left, where its steps have led it, (S, P).
    """
    sites = len(theta)
    theta, places = _without_failed(objective, theta, journal), torch.arange(theta.shape[1]).expand(sites, -1)
    while (count := theta.shape[1]) > 1:
        began = time.perf_counter()
        found = minimize(objective.repeated(sites, count), theta.flatten(0, 1), build, max_iters=STEPS_A_ROUND)
        if journal is not None:
            journal.note(places[0], found.theta, found.steps, time.perf_counter() - began)
        order = found.loss.unflatten(0, (sites, count)).argsort(1)[:, : (count + 1) // 2]  # NaN is last
        theta = found.theta.unflatten(0, (sites, count)).take_along_dim(order[..., None], 1)
        places = places.take_along_dim(order.cpu(), 1)
    if journal is not None:
        journal.kept = int(places[0, 0])
    return theta.squeeze(1)


def run_all(
    objective: ProblemObjective,
    build: BuildSolver,
    theta: Tensor,
    rank: Callable[[Tensor], Tensor],
    max_iters: int,
    journal: Journal | None = None,
) -> tuple[Tensor, list[str]]:
    """Run every start of S sites to its end, in one batch, and keep the best of each site.

    Args:
        objective: The problem of all sites.
        build: The solver.
        theta: Places to start from, (S, N, P); the first is used in place of one whose loss is not finite.
        rank: From the ends of all starts, (S N, P), to a number each by which the least is kept.
        max_iters: Most steps of a start.
        journal: Notes what becomes of the starts, of one site.

    Returns:
        Theta, (S, P), and how each was found, in words.
    """
    sites, count, _ = theta.shape
    theta, began = _without_failed(objective, theta, journal), time.perf_counter()
    found = minimize(objective.repeated(sites, count), theta.flatten(0, 1), build, max_iters=max_iters)
    score = rank(found.theta).unflatten(0, (sites, count))
    kept = torch.where(score.isfinite(), score, math.inf).argmin(1)
    if journal is not None:
        journal.note(torch.arange(count), found.theta, found.steps, time.perf_counter() - began)
        journal.rounds.zero_()
        journal.is_halved, journal.kept = False, int(kept[0])
    ends = found.theta.unflatten(0, (sites, count))
    return ends[torch.arange(sites), kept], [f"best of {count} starts, each run to its end"] * sites


def _without_failed(objective: ProblemObjective, theta: Tensor, journal: Journal | None) -> Tensor:
    """Return the starts, (S, N, P), with the first of a site in place of those whose loss is not finite."""
    sites, count, _ = theta.shape
    if count == 1:
        return theta
    finite = objective.repeated(sites, count).loss(theta.flatten(0, 1)).isfinite().unflatten(0, (sites, count))
    if journal is not None:
        journal.failed = ~finite[0].cpu()
    return torch.where(finite[..., None], theta, theta[:, :1])  # if the prior's is not, the solver says so
