r"""A population of draws that moves until it has the shape of the posterior.

Randomised maximum likelihood knows no cut tails and a linearisation no steps in the response, so draws of both are only near. Here
they are the first state of a Markov chain over whole populations, which leaves the posterior as it is, whatever its shape. Each
sweep moves one half of the population, in turn by

* steps along the difference of two members of the other half, in all coordinates or a few: what is known of the shape of the
  posterior is the population itself (differential evolution, ter Braak 2006), and
* new values from the prior for a few coordinates: most parameters of an inversion are little more than their prior.

Both are judged by the posterior's own density (Metropolis), with no gradient: only simulations, of half the population at once.
Moves are made in coordinates z in which the prior cut to its bounds is a standard normal,

.. math:: u = \Phi^{-1}(\Phi(a) + (\Phi(b) - \Phi(a)) \Phi(z))

for bounds a and b, so that no bound is ever met. A parameter that is bounded by another keeps the bound that holds at the mode.

Sources:
    ter Braak (2006), Stat. Comput. 16, 239-249, doi:10.1007/s11222-006-8769-1, for steps along differences.
    Vrugt (2016), Environ. Model. Softw. 75, 273-316, doi:10.1016/j.envsoft.2015.08.013, for moving a few coordinates at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..problem_objective import ProblemObjective
from . import laplace
from .bands import DAYS_AT_ONCE
from .target import Mode, to_theta, unit_bounds

#: Draws that move together: a difference of two of half of them should point anywhere.
MEMBERS = 64
#: Moves before the first state that is kept, and between two that are.
SETTLE, APART = 150, 15
#: Shares of the coordinates that a step along a difference moves, one of them at random.
_CROSSOVERS = (0.1, 0.3, 1.0)
#: Chance of a step as long as the difference itself, which leads from one mode of the posterior to another.
_JUMPS = 0.1
#: Share of the coordinates that a new value from the prior replaces.
_REFRESHED = 0.1
#: Scatter beside a difference, so that no direction is out of reach.
_SCATTER = 1e-3


def sample(mode: Mode, count: int, generator: Generator) -> Population:
    """Draw from the posteriors of B members.

    Args:
        mode: Their modes, around which the Laplace approximation gives the first population.
        count: Number of draws of each.
        generator: Source of randomness, on the CPU.
    """
    now = move(mode, laplace.sample_all(mode, MEMBERS, generator), SETTLE, generator)
    states = [now]
    while len(states) * MEMBERS < count:
        states.append(move(mode, states[-1].units, APART, generator))
    draws = torch.cat([state.units for state in states], dim=1)[:, -count:]
    return Population(draws, sum(state.accepted for state in states) / len(states))


@dataclass(frozen=True)
class Population:
    """M draws of each of B posteriors, and how their moves went."""

    units: Tensor
    """(B, M, P), float64, in prior units; zero at fixed parameters."""
    accepted: float
    """Share of the moves that were accepted [-]."""


def move(mode: Mode, units: Tensor, sweeps: int, generator: Generator) -> Population:
    """Move populations of draws so often.

    Args:
        mode: The modes of B posteriors.
        units: The first states, (B, M, P), in prior units.
        sweeps: Moves of each draw.
        generator: Source of randomness, on the CPU.
    """
    space = _Coordinates(mode)
    z = space.to_normal(units)
    chi2 = space.chi2(z)
    accepted = 0.0
    half = torch.arange(z.shape[1]) % 2 == 0
    for sweep in range(sweeps):
        for moving in (half, ~half):
            here, there = z[:, moving], z[:, ~moving]
            proposed = _step(here, there, generator) if sweep % 2 == 0 else _refresh(here, generator)
            cost = space.chi2(proposed)
            change = cost - chi2[:, moving]
            if sweep % 2 == 0:  # values from the prior are judged by the likelihood alone
                change = change + proposed.square().sum(-1) - here.square().sum(-1)
            chance = torch.rand(change.shape, generator=generator, dtype=torch.float64)
            taken = chance.log() < -change / 2
            z[:, moving] = torch.where(taken[..., None], proposed, here)
            chi2[:, moving] = torch.where(taken, cost, chi2[:, moving])
            accepted += taken.double().mean().item() / (2 * sweeps)
    return Population(space.to_units(z), accepted)


def _step(here: Tensor, there: Tensor, generator: Generator) -> Tensor:
    """Propose steps along differences of the other half's members."""
    sites, count, free = here.shape
    members = there.shape[1]
    place = torch.randint(members, (sites, count, 1), generator=generator)
    other = (place + torch.randint(1, members, place.shape, generator=generator)) % members
    first, second = (there.gather(1, one.expand(-1, -1, free)) for one in (place, other))
    share = torch.tensor(_CROSSOVERS)[torch.randint(len(_CROSSOVERS), (sites, count, 1), generator=generator)]
    chosen = _some(here, share, generator)
    length = 2.38 / (2.0 * chosen.sum(-1, keepdim=True)).sqrt()
    jumps = torch.rand(sites, count, 1, generator=generator) < _JUMPS
    scatter = _SCATTER * torch.randn(here.shape, generator=generator, dtype=here.dtype)
    return torch.where(chosen, here + torch.where(jumps, 1.0, length) * (first - second) + scatter, here)


def _refresh(here: Tensor, generator: Generator) -> Tensor:
    """Propose values from the prior for a few coordinates."""
    chosen = _some(here, torch.full((*here.shape[:2], 1), _REFRESHED), generator)
    return torch.where(chosen, torch.randn(here.shape, generator=generator, dtype=here.dtype), here)


def _some(values: Tensor, share: Tensor, generator: Generator) -> Tensor:
    """Choose a share of the coordinates at random, one at the least."""
    places = torch.rand(values.shape, generator=generator)
    return (places < share) | (places == places.amin(-1, keepdim=True))


class _Coordinates:
    """Coordinates in which the prior cut to its bounds is a standard normal; K free parameters."""

    def __init__(self, mode: Mode) -> None:
        self._problem, self._free = mode.problem, mode.free
        lower, upper = unit_bounds(mode.problem, mode.theta)
        self._low, self._high = (torch.special.ndtr(side[:, None, mode.free]) for side in (lower, upper))
        self._rows = torch.arange(len(mode.theta))
        self._at_once = max(1, DAYS_AT_ONCE // mode.problem.mask.shape[1])

    def to_normal(self, units: Tensor) -> Tensor:
        """Return z, (B, M, K); a draw on a bound is taken just inside it."""
        places = (torch.special.ndtr(units[..., self._free]) - self._low) / (self._high - self._low)
        z: Tensor = torch.special.ndtri(places.clamp(1e-4, 1 - 1e-4))
        return z

    def to_units(self, z: Tensor) -> Tensor:
        """Return draws in prior units, (B, M, P)."""
        units = z.new_zeros(*z.shape[:-1], self._problem.space.fixed.shape[-1])
        units[..., self._free] = torch.special.ndtri(self._low + (self._high - self._low) * torch.special.ndtr(z))
        return units

    def chi2(self, z: Tensor) -> Tensor:
        """Return minus twice the log likelihood, (B, M), with the terms of plugins; inf where it cannot be computed."""
        units = self.to_units(z)
        members = self._rows.repeat_interleave(z.shape[1]), to_theta(self._problem, units.flatten(0, 1))
        parts = zip(*(each.split(self._at_once) for each in members), strict=True)
        loss = torch.cat([ProblemObjective(self._problem, rows=rows).loss(theta) for rows, theta in parts])
        chi2 = loss.double().unflatten(0, z.shape[:2]) - units.square().sum(-1)
        finite: Tensor = torch.where(chi2.isfinite(), chi2, torch.inf)
        return finite
