"""Many descents of a posterior at once: to the optima of randomised members, along profiles, and to its deepest mode.

Each member linearises once, where it starts, and follows gradients from then on: as deep as a likelihood can tell, that takes a
third of the time of Levenberg-Marquardt.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from ..objective import Objective
from ..problem_objective import ProblemObjective
from ..solvers import QuasiNewton, Status, Stopping
from .target import Mode, to_theta

#: Most steps of a member.
_STEPS = 150
#: Two falls of the loss in a row by less than this share end a descent: far less than one, which is what a likelihood can tell.
_SMALL_FALL = 1e-5
#: Most numbers in the Jacobians of the members that descend at once.
_NUMBERS = 2**24


def members_at_once(mode: Mode) -> int:
    """Return how many members may descend at once, so that their Jacobians fit into memory."""
    return max(1, _NUMBERS // (mode.simulated[0].numel() * len(mode.free)))


def descend(objective: Objective, theta: Tensor, small_fall: float = _SMALL_FALL) -> tuple[Tensor, Tensor]:
    """Descend from theta, (m, P).

    Args:
        objective: What to minimise.
        theta: Starts, left as they are.
        small_fall: Two falls of the loss in a row by less than this share of it end a descent.

    Returns:
        Where each member ended, (m, P), and whether it had arrived, (m,).
    """
    parameter = nn.Parameter(theta.detach().clone())
    solver = QuasiNewton([parameter], objective, stopping=Stopping(loss=small_fall))
    for _ in range(_STEPS):
        if solver.finished:
            break
        solver.step()
    arrived = [solver.describe(member)[0] is not Status.RUNNING for member in range(len(theta))]
    return parameter.detach(), torch.tensor(arrived)


def deepest(mode: Mode, count: int, generator: Generator) -> Tensor:
    """Return where the posterior of one site is highest among the ends of descents from the mode and from draws of the prior.

    A posterior of a network has several modes, and the one that a fit leads to need not be the highest.

    Args:
        mode: A mode of it.
        count: Number of draws.
        generator: Source of randomness, on the CPU.

    Returns:
        Theta, (1, P).
    """
    draws = torch.randn(count, mode.units.shape[1], generator=generator, dtype=torch.float64)
    ends = [mode.theta]
    for part in to_theta(mode.problem, draws).split(members_at_once(mode)):
        ends.append(descend(ProblemObjective(mode.problem, rows=part.new_zeros(len(part), dtype=torch.long)), part)[0])
    theta = torch.cat(ends)
    loss = ProblemObjective(mode.problem, rows=theta.new_zeros(len(theta), dtype=torch.long)).loss(theta)
    return theta[loss.argmin()].unsqueeze(0)
