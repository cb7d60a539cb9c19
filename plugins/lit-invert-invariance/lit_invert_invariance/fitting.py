"""Inversions without a Trainer: many members at once, from one start or the best of several.

A member is a row of theta: a window of a record, a start, or both.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lit_invert import InversionProblem, LevenbergMarquardt, ProblemObjective, minimize
from lit_invert.losses import Misfit
from lit_invert.solvers import Stopping

from .points import prior_point, prior_points

#: Starts of an estimate.
STARTS = 8
#: Days of all members that are inverted at once: memory grows with them.
MEMBER_DAYS = 100_000
#: Most steps of an inversion.
STEPS = 100
#: An inversion has ended when a step lowers its loss by less than this share: estimates then lie within a fiftieth of a posterior
#: standard deviation of where a hundred times less would have led.
STOPPING = Stopping(loss=1e-4)


def find_misfit(problem: InversionProblem) -> Misfit | None:
    """Return the misfit of a problem, or None where observations enter in another way."""
    return next((term for term in problem.loss_terms if isinstance(term, Misfit)), None)


def draw_starts(problem: InversionProblem, seed: int) -> Tensor:
    """Return the prior and draws from it in the optimiser's coordinates, enough for two estimates, (2 x STARTS, P)."""
    scaled = torch.cat([prior_point(problem), prior_points(problem, 2 * STARTS - 1, seed)])
    return problem.space.to_theta(problem.space.scaler.to_physical(scaled))


def fit_best(problem: InversionProblem, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Invert each member from every start and keep the best.

    Args:
        problem: The problem of B members.
        starts: (S, P).

    Returns:
        Estimates, (B, P), and the place of the start of each, (B,).
    """
    members, days = problem.mask.shape[:2]
    rows, fits = torch.arange(members), []
    for part in starts.split(max(1, MEMBER_DAYS // (members * days))):
        fits.append(fit_members(problem, part.repeat_interleave(members, 0), rows.repeat(len(part))))
    theta, losses = (torch.cat(values).unflatten(0, (len(starts), members)) for values in zip(*fits, strict=True))
    best = losses.argmin(0)
    return theta[best, rows], best


def fit_members(problem: InversionProblem, theta: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Invert each member by itself.

    Args:
        problem: The problem.
        theta: Starts of B members, (B, P).
        rows: Which member of the problem each is, (B,); in order when omitted.

    Returns:
        Estimates, (B, P), and the loss there, (B,); NaN and infinite for a start whose loss or gradient is not finite.
    """
    start = ProblemObjective(problem, rows=rows).linearize(theta)
    sound = (start.loss.isfinite() & start.gradient.isfinite().all(-1)).nonzero().flatten()
    estimates, losses = torch.full_like(theta, torch.nan), torch.full((len(theta),), torch.inf, dtype=torch.float64)
    if len(sound):
        objective = ProblemObjective(problem, rows=sound if rows is None else rows[sound])
        build = partial(LevenbergMarquardt, stopping=STOPPING)
        found = minimize(objective, theta[sound], build, max_iters=STEPS)
        estimates[sound], losses[sound] = found.theta, found.loss
    return estimates, losses
