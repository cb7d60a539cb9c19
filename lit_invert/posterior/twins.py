r"""Twin experiments: what an inversion would find at this site if the truth were known.

A truth is drawn from the prior, cut to its bounds, and simulated under the site's own weather. The days that the site observed get
noise as the site's own record has it, in size, in growth with the flux and from day to day. Each such record is then inverted as
the real one: noise estimated anew, mode, draws. Before any real result is believed, this says which parameters an inversion of
this tower can find at all (:mod:`lit_invert.posterior.certificate`), and whether its intervals hold what they promise
(:mod:`lit_invert.posterior.calibration`).

All twins are members of one batch; long records go through in parts that memory bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ..losses.base import index_of
from ..problem import InversionProblem
from .bands import simulate_draws
from .identify import DETERMINED, sd_ratio
from .noise import NOISE_FLOOR, Noise
from .sampling import Sampler
from .target import Mode, find_mode, to_theta, to_units, unit_bounds

#: Most numbers in the Jacobians of the twins that are inverted at once.
_NUMBERS = 2**24


@dataclass(frozen=True)
class Twins:
    """B records whose truth is known."""

    problem: InversionProblem
    """The problem of the fit."""
    observed: Tensor
    """The records that take the place of the site's, (B, T, V) [gC m-2 d-1]."""
    truth: Tensor
    """Parameters that made them, in prior units, (B, P), float64 [-]."""
    simulated: Tensor
    """Their fluxes without noise, (B, T, V) [gC m-2 d-1]."""


@dataclass(frozen=True)
class Estimates:
    """What was found of B twins, in prior units, float64 [-]; P parameters, of which K are free."""

    truth: Tensor
    """(B, P)."""
    mode: Tensor
    """(B, P)."""
    draws: Tensor
    """Draws of each twin's posterior, (B, M, P)."""
    ratio: Tensor
    """Standard deviation of the draws over that of the prior cut to its bounds, (B, K)."""
    free: Tensor
    """Places of the K free parameters."""

    @property
    def determined(self) -> Tensor:
        """Whether a twin's own posterior calls a free parameter determined, (B, K)."""
        return self.ratio <= DETERMINED


def draw_prior(problem: InversionProblem, count: int, generator: Generator) -> Tensor:
    """Draw from the prior cut to its bounds, each parameter by the inverse of its distribution.

    A parameter whose bound is another one is drawn inside the bounds that hold at the prior, and clipped to its own.

    Args:
        problem: The problem, of one member.
        count: Number of draws.
        generator: Source of randomness, on the CPU.

    Returns:
        A (count, P)-dim tensor in prior units, zero at fixed parameters.
    """
    space = problem.space
    lower, upper = (torch.special.ndtr(side) for side in unit_bounds(problem, space.to_theta(space.priors)))
    places = torch.rand(count, lower.shape[1], generator=generator, dtype=torch.float64)
    units = torch.special.ndtri(lower + (upper - lower) * places)
    return to_units(problem, to_theta(problem, torch.where(space.fixed, 0.0, units)))


def make_twins(problem: InversionProblem, mode: Mode, count: int, generator: Generator) -> Twins:
    """Make records whose truth is known.

    Args:
        problem: The problem of the fit, of one member.
        mode: Mode of its posterior, whose noise the twins' records get.
        count: Number of twins.
        generator: Source of randomness, on the CPU.
    """
    truth = draw_prior(problem, count, generator)
    simulated = simulate_draws(problem, truth)
    observed = simulated.clone()
    for name, noise in mode.noise.items():
        place = index_of(name, problem.surrogate.spec.output_names, "output of the surrogate")
        observed[..., place] += draw_noise(noise, mode.simulated[..., place], simulated[..., place], generator)
    return Twins(problem, observed, truth, simulated)


def draw_noise(noise: Noise, before: Tensor, flux: Tensor, generator: Generator) -> Tensor:
    r"""Draw a series of noise for each of B fluxes, whose size follows that flux.

    .. math:: \sigma_t^2(f) = \sigma_t^2(f_0) + q^2 (f_t^2 - f_{0,t}^2)

    with the flux :math:`f_0` at which the noise was estimated.

    Args:
        noise: Noise of the site's record.
        before: The flux that it was estimated at, (1, T) [gC m-2 d-1].
        flux: The fluxes, (B, T) [gC m-2 d-1].
        generator: Source of randomness, on the CPU.

    Returns:
        A (B, T)-dim tensor [gC m-2 d-1].
    """
    growth = noise.share[:, None].square() * (flux.double().square() - before.double().square())
    deviation = (noise.deviation.square() + growth).clamp_min(NOISE_FLOOR**2).sqrt()
    even = replace(noise, deviation=torch.ones_like(noise.deviation))
    return (deviation * even.draw(len(flux), generator)).to(flux)


def invert_twins(
    twins: Twins, target: str, sampler: Sampler, draws: int, generator: Generator, show: Callable[[int], None] = lambda _: None
) -> Estimates:
    """Invert each twin as if it were the real record: from the prior, with noise that is estimated anew.

    Args:
        twins: The twins.
        target: The flux that is fitted.
        sampler: How the posterior is drawn from.
        draws: Number of draws for each.
        generator: Source of randomness, on the CPU.
        show: Called with the number of twins that are done.
    """
    problem, parts, done = twins.problem, [], 0
    start = problem.space.to_theta(problem.space.priors)
    for members in torch.arange(len(twins.truth)).split(_at_once(problem)):
        part = problem.variant(observed=twins.observed[members])
        mode = find_mode(part, start.repeat(len(members), 1), target)
        drawn = sampler(part, mode, draws, generator)
        parts.append(Estimates(twins.truth[members], mode.units, drawn, sd_ratio(mode, drawn), mode.free))
        done += len(members)
        show(done)
    return _join(parts)


def _join(parts: Sequence[Estimates]) -> Estimates:
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("truth", "mode", "draws", "ratio")}
    return Estimates(**joined, free=parts[0].free)


def _at_once(problem: InversionProblem) -> int:
    """Return how many members may be inverted at once, each with its Jacobian."""
    return max(1, _NUMBERS // (problem.mask[0].numel() * problem.space.fixed.numel()))
