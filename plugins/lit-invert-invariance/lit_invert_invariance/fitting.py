"""Inversions without a Trainer: many members at once, from one start or the best of several.

A member is a row of theta: a window of a record, a start, or both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lit_invert import InversionProblem, LevenbergMarquardt, ProblemObjective, minimize
from lit_invert.losses import Misfit
from lit_invert.solvers import Stopping

from .points import prior_point, prior_points

#: Starts of an estimate, and how many more where two estimates disagree.
STARTS, MORE_STARTS = 8, 16
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


@dataclass(frozen=True)
class Best:
    """The best of several inversions of each of B members."""

    theta: Tensor
    """Estimates, (B, P)."""
    loss: Tensor
    """Loss there, (B,)."""
    start: Tensor
    """Where each began, (B, P)."""

    def improve(self, members: Tensor, other: Best) -> Best:
        """Return the better of both for some members, (M,), of which alone the other is."""
        better = other.loss < self.loss[members]
        places = members[better]
        theta, loss, start = self.theta.clone(), self.loss.clone(), self.start.clone()
        theta[places], loss[places], start[places] = other.theta[better], other.loss[better], other.start[better]
        return Best(theta, loss, start)


def draw_starts(problem: InversionProblem, seed: int) -> tuple[Tensor, ...]:
    """Return the starts of two estimates and more for each, in the optimiser's coordinates: the prior, and draws from it.

    Returns:
        Tensors of (STARTS, P) for the first, whose first start is the prior, and for the second; then of (MORE_STARTS, P) for both.
    """
    scaled = torch.cat([prior_point(problem), prior_points(problem, 2 * (STARTS + MORE_STARTS) - 1, seed)])
    starts = problem.space.to_theta(problem.space.scaler.to_physical(scaled))
    return torch.split(starts, [STARTS, STARTS, MORE_STARTS, MORE_STARTS])


def fit_best(problem: InversionProblem, starts: Tensor, members: Tensor | None = None) -> Best:
    """Invert each member from every start and keep the best.

    Args:
        problem: The problem.
        starts: (S, P).
        members: Which members of the problem, (B,); all when omitted.
    """
    rows = torch.arange(len(problem.mask)) if members is None else members
    fits = []
    for part in starts.split(max(1, MEMBER_DAYS // (len(rows) * problem.mask.shape[1]))):
        fits.append(fit_members(problem, part.repeat_interleave(len(rows), 0), rows.repeat(len(part))))
    theta, losses = (torch.cat(values).unflatten(0, (len(starts), len(rows))) for values in zip(*fits, strict=True))
    best, each = losses.argmin(0), torch.arange(len(rows))
    return Best(theta[best, each], losses[best, each], starts[best])


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
