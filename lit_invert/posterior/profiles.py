r"""Profile likelihood: how much worse the best fit becomes when one parameter is held elsewhere and all others may follow.

The rise of parameter i at the value v is

.. math:: R_i(v) = \min_{\theta: \theta_i = v} -2 \log p(\theta \mid o) - \min_\theta -2 \log p(\theta \mid o)

and the values with :math:`R_i(v) \le \chi^2_1(q)` are the interval of confidence q. Unlike a linearisation it sees bent ridges,
along which others make up for the parameter, and tails that are not those of a parabola. An end of an interval is closed by
whatever has the largest share of the rise from the profile's lowest point to there: the data, the parameter's own prior, or the
priors of the others, which the data make follow it. Where nothing closes it, it is open, and the bound of the parameter ends it.
Two open ends make a flat profile, one a one-sided one. The others' priors close the profile of a parameter that the data tie to
them: it is determined as long as they are what their priors say.

Every value of every parameter is a member of one batch. It starts where the linearisation at the mode says that the others go, and
once more from its neighbour's end where that is better, until no neighbour knows better: so a profile leaves no valley that one of
its values has found. Rises are above the lowest point of the mode and all profiles, intervals are read from a profile's own lowest
point, and `fall` says how far the lowest of all lies below the mode.

Source:
    Raue et al. (2009), Bioinformatics 25(15), 1923-1929, doi:10.1093/bioinformatics/btp358.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..losses.base import index_of
from ..problem_objective import ProblemObjective
from .descents import descend, members_at_once
from .target import Mode, to_theta, to_units, unit_bounds
from .terms import Likelihood

#: Quantiles of the chi-square distribution of one degree of freedom, by confidence in percent.
LEVELS = {50: 0.454936, 90: 2.705543, 95: 3.841459}
#: Places on each side of the mode, in standard deviations of the linearised posterior; the bound is one more.
_PLACES = (0.35, 0.7, 1.0, 1.4, 1.8, 2.2, 2.7, 3.3, 4.0)
#: What may close an interval, in the order of the parts of a rise.
_CLOSERS = ("data", "prior", "others")
#: Fall below its own end that makes a member start again from its neighbour's [-2 log p].
_BETTER = 0.01
#: Most rounds of that.
_SWEEPS = 10
#: Rise of a place that cannot be simulated: it closes an interval, and has no weight in where [-2 log p].
_NEVER = 1e12


@dataclass(frozen=True)
class Profiles:
    """Profiles of some parameters."""

    table: pd.DataFrame
    """A row a value in ascending order: parameter, value (physical), rise, and two parts of it: data_rise, the likelihood's, and
    own_rise, that of the parameter's own prior; the rest is the others' priors. Parts are above the profile's own lowest point."""
    flags: dict[str, dict[str, float | str]]
    """For each parameter `flag` (two-sided, one-sided or flat), `low50`, `high50` and so on (physical), and who closes the widest
    interval, `low_closed_by` and `high_closed_by` (data, prior, others or bound)."""
    lowest: Tensor
    """Theta of the lowest point seen, (1, P)."""
    fall: float
    """How far it lies below the mode [-2 log p]; where it is more than rounding, the mode is not the highest."""


class _Held(ProblemObjective):
    """The objective of members that share a problem of one member, each with one component of theta held where it starts."""

    def __init__(self, mode: Mode, held: Tensor) -> None:
        super().__init__(mode.problem, rows=torch.zeros_like(held))
        self._held = nn.functional.one_hot(held, mode.theta.shape[1]).bool()

    def bounds(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the bounds, closed around the component that is held."""
        held = self._held if members is None else self._held[members]
        lower, upper = super().bounds(theta, members)
        return torch.where(held, theta, lower), torch.where(held, theta, upper)


def profile(mode: Mode, names: Sequence[str]) -> Profiles:
    """Profile parameters of one site.

    Args:
        mode: The mode of its posterior.
        names: Parameters that are free.

    Returns:
        Their profiles, in the same order.

    Raises:
        ConfigError: If no free parameter has one of the names.
    """
    known = [mode.problem.space.table.names[i] for i in mode.free.tolist()]
    columns = [index_of(name, known, "free static parameter") for name in dict.fromkeys(names)]
    starts = [_starts(mode, column) for column in columns]
    held = torch.cat([mode.free[column].expand(len(each)) for column, each in zip(columns, starts, strict=True)])
    theta = _descend(mode, held, to_theta(mode.problem, torch.cat(starts)))
    for _ in range(_SWEEPS):
        theta, is_better = _look_aside(mode, held, theta)
        if not is_better.any():
            break
        theta[is_better] = _descend(mode, held[is_better], theta[is_better])
    return _collect(mode, held, theta, [len(each) for each in starts])


def _starts(mode: Mode, column: int) -> Tensor:
    """Return parameters in prior units, (G, P), at rising values of one, with the others at their conditional means."""
    covariance = torch.linalg.inv(mode.precision[0])
    lower, upper = (side[0, mode.free] for side in unit_bounds(mode.problem, mode.theta))
    centre, deviation = mode.units[0, mode.free], covariance[column, column].sqrt()
    places = centre[column] + deviation * torch.tensor([-place for place in reversed(_PLACES)] + [0.0, *_PLACES])
    sides = torch.stack([lower[column], upper[column]])
    inside = (places > sides[0]) & (places < sides[1])
    values = torch.cat([places[inside], sides[sides.isfinite()]]).unique()
    units = mode.units.repeat(len(values), 1)
    followed = centre + (values - centre[column])[:, None] * covariance[column] / covariance[column, column]
    units[:, mode.free] = followed.clamp(lower, upper)
    return units


def _descend(mode: Mode, held: Tensor, theta: Tensor) -> Tensor:
    """Return where the other parameters go, (m, P)."""
    members = members_at_once(mode)
    parts = zip(held.split(members), theta.split(members), strict=True)
    return torch.cat([descend(_Held(mode, places), starts)[0] for places, starts in parts])


def _look_aside(mode: Mode, held: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Put members at a neighbour's end, but for their own value, where that is better; return theta, (m, P), and which, (m,)."""
    objective, own = _Held(mode, held), theta.gather(1, held[:, None])
    theta, loss, moved = theta.clone(), objective.loss(theta), torch.zeros(len(held), dtype=torch.bool)
    for side in (1, -1):
        neighbour = theta.roll(side, 0).scatter(1, held[:, None], own)
        beside = objective.loss(neighbour)
        better = (held.roll(side) == held) & (beside < loss - _BETTER)
        theta, loss, moved = torch.where(better[:, None], neighbour, theta), torch.where(better, beside, loss), moved | better
    return theta, moved


@torch.no_grad()
def _collect(mode: Mode, held: Tensor, theta: Tensor, lengths: list[int]) -> Profiles:
    """Return the profiles from where the members ended."""
    reached = mode.problem(torch.cat([mode.theta, theta]), held.new_zeros(len(held) + 1))
    loss, data = reached.total.double(), reached.terms[Likelihood.name].double()
    lowest = int(loss.argmin())
    value = reached.evaluation.physical[1:].gather(1, held[:, None])[:, 0].double()
    own = to_units(mode.problem, theta).gather(1, held[:, None])[:, 0].square()
    tables, flags = [], {}
    parts = (value, loss[1:] - loss[lowest], data[1:], own)
    for place, *each in zip(held.split(lengths), *(part.split(lengths) for part in parts), strict=True):
        name = mode.problem.space.table.names[int(place[0])]
        best = each[1].argmin()
        each[2:] = [part - part[best] for part in each[2:]]
        columns = dict(zip(("value", "rise", "data_rise", "own_rise"), (x.numpy() for x in each), strict=True))
        tables.append(pd.DataFrame({"parameter": name, **columns}))
        flags[name] = read_profile(**columns)
    return Profiles(
        pd.concat(tables, ignore_index=True), flags, torch.cat([mode.theta, theta])[lowest][None], (loss[0] - loss[lowest]).item()
    )


def read_profile(
    value: NDArray[np.float64], rise: NDArray[np.float64], data_rise: NDArray[np.float64], own_rise: NDArray[np.float64]
) -> dict[str, float | str]:
    """Read intervals and flag from one profile.

    Args:
        value: Values in ascending order.
        rise: Rise at each; it is read from its own lowest.
        data_rise: The likelihood's part of the rise above the lowest of these.
        own_rise: The part of the parameter's own prior.

    Returns:
        `flag`, then `low50`, `high50` and so on, then `low_closed_by` and `high_closed_by` of the widest interval.

    Example:
        >>> value = np.linspace(-1.0, 4.0, 51)
        >>> read = read_profile(value, value**2, 0.9 * value**2, 0.1 * value**2)
        >>> read["flag"], round(read["high95"], 3), read["high_closed_by"], read["low_closed_by"]
        ('one-sided', 1.96, 'data', 'bound')
    """
    rise, data_rise = (np.nan_to_num(part - np.nanmin(part), nan=_NEVER, posinf=_NEVER) for part in (rise, data_rise))
    best = int(rise.argmin())
    sides = {"low": slice(best, None, -1), "high": slice(best, None)}
    data_rise = data_rise - data_rise[best]
    parts = np.stack([data_rise, own_rise, rise - data_rise - own_rise])
    ends: dict[str, float | str] = {}
    closed_by = {}
    for level, threshold in LEVELS.items():
        for side, outwards in sides.items():
            ends[f"{side}{level}"], closed_by[side] = _end(value[outwards], rise[outwards], parts[:, outwards], threshold)
    flag = ("two-sided", "one-sided", "flat")[list(closed_by.values()).count("bound")]
    return {"flag": flag, **ends, **{f"{side}_closed_by": closer for side, closer in closed_by.items()}}


def _end(value: NDArray[np.float64], rise: NDArray[np.float64], parts: NDArray[np.float64], threshold: float) -> tuple[float, str]:
    """Return where a rise outwards first passes the threshold, and which of its parts, (3, n), is the largest there.

    The root of the rise is interpolated, which is exact for a parabola.
    """
    above = np.flatnonzero(rise > threshold)
    if not len(above):
        return float(value[-1]), "bound"
    after = int(above[0])
    low, high = np.sqrt(rise[after - 1]), np.sqrt(rise[after])
    share = (np.sqrt(threshold) - low) / (high - low)
    there = parts[:, after - 1] + share * (parts[:, after] - parts[:, after - 1])
    return float(value[after - 1] + share * (value[after] - value[after - 1])), _CLOSERS[int(there.argmax())]
