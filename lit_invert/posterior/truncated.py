r"""A Gaussian cut to a box: what is left of a posterior where parameters have bounds.

Drawing from it takes no tuning and no rejection, but two kinds of steps in turn. In the first a particle with the Gaussian's own
covariance as its inverse mass swings about the mean on an ellipse that is known in closed form,

.. math:: x(t) = m + (x_0 - m) \cos t + v \sin t, \qquad v \sim N(0, \Sigma),

and after a quarter of a turn, without a wall in its way, it has forgotten where it was: directions that the data fixed and those
that only the prior holds mix alike. A wall of the box reflects it, :math:`v \leftarrow v - 2 \, \Sigma_{\cdot i} v_i /
\Sigma_{ii}`, at a time that has a closed form, too. A mean far beyond a wall presses it against that wall, where swings are
short. So in the second kind of step each parameter in turn is drawn anew, given all others, from a normal cut to an interval
(Gibbs): that mixes along walls.

Source:
    Pakman and Paninski (2014), J. Comput. Graph. Stat. 23, 518-542, doi:10.1080/10618600.2013.788448, for the swings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

#: Draws that one chain leaves; a batch of chains is moved at once.
_DRAWS_A_CHAIN = 10
#: Rounds of steps before the first draw: each leaves a chain nearly independent of the one before.
_BURN_IN = 8
#: Mass of a tail beyond which all of it lies at its wall.
_LEAST_MASS = 1e-300
#: How far inside a wall the first particle stands, as a share of the box.
_INSIDE = 1e-6


@dataclass(frozen=True)
class CutGaussian:
    """B Gaussians in K dimensions, each cut to a box; float64."""

    mean: Tensor
    """Mean of the uncut Gaussian, which may lie outside the box, (B, K)."""
    covariance: Tensor
    """Covariance of the uncut Gaussian, (B, K, K)."""
    lower: Tensor
    """Lower sides of the box, (B, K); -inf where there is none."""
    upper: Tensor
    """Upper sides, likewise."""

    def only(self, members: Tensor) -> CutGaussian:
        """Return some of the Gaussians, (b,), one of them several times where it is asked for."""
        return CutGaussian(*(getattr(self, field.name)[members] for field in fields(self)))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw from each Gaussian inside its box.

        Args:
            count: Number of draws.
            generator: Source of randomness, on the CPU.

        Returns:
            A (B, count, K)-dim tensor, never outside the box.

        Example:
            >>> one = torch.ones(1, 1, dtype=torch.float64)
            >>> half = CutGaussian(0 * one, one[None], 0 * one, torch.inf * one)
            >>> draws = half.sample(4000, torch.Generator().manual_seed(0))
            >>> bool(draws.min() >= 0), round(draws.mean().item(), 1)  # the mean is sqrt(2 / pi)
            (True, 0.8)
        """
        members, dimension = self.mean.shape
        chains = math.ceil(count / _DRAWS_A_CHAIN)
        owner = torch.arange(members).repeat_interleave(chains)
        root = torch.linalg.cholesky(self.covariance)
        precision = torch.cholesky_inverse(root)
        offset, draws = self._start().repeat_interleave(chains, 0), []
        for swing in range(_BURN_IN + math.ceil(count / chains)):
            shocks = torch.randn(members, chains, dimension, generator=generator, dtype=torch.float64)
            offset = self._swing(offset, (shocks @ root.transpose(1, 2)).flatten(0, 1), owner)
            shares = torch.rand(members, chains, dimension, generator=generator, dtype=torch.float64)
            offset = self._redraw(offset.view(shares.shape), shares, precision).flatten(0, 1)
            if swing >= _BURN_IN:
                draws.append(offset.view(members, chains, dimension) + self.mean[:, None])
        together = torch.cat(draws, dim=1)[:, :count]
        return together.maximum(self.lower[:, None]).minimum(self.upper[:, None])  # rounding may leave one just outside

    def _start(self) -> Tensor:
        """Return the place in the box that is nearest to the mean, a little inside, as an offset from the mean, (B, K)."""
        room = torch.where((self.upper - self.lower).isfinite(), self.upper - self.lower, 1.0) * _INSIDE
        return self.mean.maximum(self.lower + room).minimum(self.upper - room) - self.mean

    def _swing(self, offset: Tensor, velocity: Tensor, owner: Tensor) -> Tensor:
        """Move each of N particles for a quarter of a turn.

        Args:
            offset: Distance from the mean, (N, K).
            velocity: Velocity, (N, K).
            owner: Which Gaussian each particle belongs to, (N,).

        Returns:
            The distances then, (N, K).
        """
        arrived = torch.empty_like(offset)
        index, left = torch.arange(len(offset)), offset.new_full((len(offset),), math.pi / 2)
        low, high = (self.lower - self.mean)[owner], (self.upper - self.mean)[owner]
        while len(index):
            until, wall = _first_hit(offset, velocity, low, high)
            step = torch.minimum(until, left)
            cosine, sine = step.cos()[:, None], step.sin()[:, None]
            offset, velocity = offset * cosine + velocity * sine, velocity * cosine - offset * sine
            hit = until < left
            arrived[index[~hit]] = offset[~hit]
            index, left, wall, owner = index[hit], (left - step)[hit], wall[hit], owner[hit]
            low, high = low[hit], high[hit]
            offset, velocity = offset[hit], self._reflect(velocity[hit], wall, owner)
        return arrived

    def _reflect(self, velocity: Tensor, wall: Tensor, owner: Tensor) -> Tensor:
        column = self.covariance[owner, wall]
        speed = velocity.gather(1, wall[:, None]) / column.gather(1, wall[:, None])
        return velocity - 2 * speed * column

    def _redraw(self, offset: Tensor, shares: Tensor, precision: Tensor) -> Tensor:
        """Draw each parameter in turn, given all others.

        Args:
            offset: Distance from the mean of C particles each, (B, C, K).
            shares: Where each shall lie in its cut normal, as a share of its mass, (B, C, K).
            precision: (B, K, K).
        """
        low, high = ((side - self.mean)[:, None] for side in (self.lower, self.upper))
        for i in range(offset.shape[-1]):
            row, own = precision[:, i, :, None], precision[:, i, i, None]
            centre = offset[..., i] - (offset @ row).squeeze(-1) / own
            scale = own.rsqrt()
            offset[..., i] = centre + scale * cut_normal(
                (low[..., i] - centre) / scale, (high[..., i] - centre) / scale, shares[..., i]
            )
        return offset


def cut_normal(lower: Tensor, upper: Tensor, share: Tensor) -> Tensor:
    r"""Return the value below which a share of a standard normal lies that is cut to an interval.

    .. math:: \Phi^{-1}\left( \Phi(l) + p \, (\Phi(h) - \Phi(l)) \right)

    An interval in the upper tail is mirrored, since only the lower tail keeps its digits.

    Example:
        >>> ends = torch.tensor([8.0, 9.0], dtype=torch.float64)
        >>> round(cut_normal(*ends, torch.tensor(0.5, dtype=torch.float64)).item(), 6)
        8.084889
    """
    is_upper = lower > 0
    low, high = torch.where(is_upper, -upper, lower), torch.where(is_upper, -lower, upper)
    share = torch.where(is_upper, 1 - share, share)
    below, beyond = (0.5 * torch.special.erfc(-side / math.sqrt(2)) for side in (low, high))  # ndtr has no digits in the tail
    mass = below + share * (beyond - below)
    value = torch.special.ndtri(mass.clamp_min(_LEAST_MASS)).maximum(low).minimum(high)
    return torch.where(is_upper, -value, value)


def _first_hit(offset: Tensor, velocity: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return when each of N particles first meets a wall, infinite where it never does, and along which dimension, (N,) each.

    Along one dimension it moves as :math:`R \cos(t - \varphi)`: it passes the upper wall on the way up, the lower on the way
    down.
    """
    radius, phase = torch.hypot(offset, velocity), torch.atan2(velocity, offset)
    up = torch.where(high.abs() < radius, phase - torch.acos((high / radius).clamp(-1, 1)), torch.inf)
    down = torch.where(low.abs() < radius, phase + torch.acos((low / radius).clamp(-1, 1)), torch.inf)
    ahead = torch.minimum(*(torch.where(time < 0, time + 2 * math.pi, time) for time in (up, down)))
    first: tuple[Tensor, Tensor] = ahead.min(-1)
    return first[0], first[1]
