"""Where a surrogate is looked at: points of the prior, and points, corners and edges of the parameter box.

A fault of a surrogate may show at one set of parameters and not at the next, so every check looks at several. All points are drawn
from a seed, in the coordinates in which the surrogate takes its parameters, and lie inside the table's bounds; parameters that are
fixed stay at their prior. Where a parameter has no bound, the box ends three prior standard deviations from the prior.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_invert import InversionProblem

#: Half-width of the box of a parameter without bounds, in standard deviations of its prior.
_OPEN_SIDE = 3.0


def prior_point(problem: InversionProblem) -> Tensor:
    """Return the scaled prior, (1, P) [-]."""
    return problem.space.scaler.to_scaled(problem.space.priors[:1])


def prior_points(problem: InversionProblem, count: int, seed: int) -> Tensor:
    """Draw points of the prior, truncated to the bounds.

    Args:
        problem: Whose parameters.
        count: Number of points.
        seed: Of the random numbers.

    Returns:
        Scaled parameters, a (count, P)-dim tensor of the problem's precision [-].

    Example:
        >>> from lit_invert.testing import toy_problem
        >>> prior_points(toy_problem(), 2, seed=0).abs().max() <= 3
        tensor(True)
    """
    prior, sd = prior_point(problem), problem.space.prior_sd_scaled.reshape(1, -1)
    lower, upper = (torch.special.ndtr((side - prior) / sd) for side in _sides(problem))
    shares = _uniform(prior, count, seed)
    return _inside(problem, prior + sd * torch.special.ndtri(lower + shares * (upper - lower)))


def box_points(problem: InversionProblem, count: int, seed: int) -> Tensor:
    """Draw points anywhere in the box, scaled, (count, P) [-]."""
    lower, upper = _sides(problem)
    return _inside(problem, lower + _uniform(lower, count, seed) * (upper - lower))


def corner_points(problem: InversionProblem, count: int, seed: int) -> Tensor:
    """Draw corners of the box, each parameter on one of its bounds, scaled, (count, P) [-]."""
    lower, upper = _sides(problem)
    return _inside(problem, torch.where(_uniform(lower, count, seed) < 0.5, lower, upper))


def edge_points(problem: InversionProblem, depth: float) -> Tensor:
    """Return the prior with one free parameter at a time near its bounds, those at the lower ones first.

    Args:
        problem: Whose parameters.
        depth: Distance from the bound, as a share of the parameter's range; 0: on it.

    Returns:
        Scaled parameters, a (2 K, P)-dim tensor for K free ones [-].
    """
    prior, (lower, upper) = prior_point(problem), _sides(problem)
    inwards = depth * (upper - lower)
    free = (~problem.space.fixed).nonzero().flatten()
    rows = torch.arange(len(free), device=free.device)
    points = []
    for side in (lower + inwards, upper - inwards):
        point = prior.repeat(len(free), 1)
        point[rows, free] = side[0, free]
        points.append(point)
    return _inside(problem, torch.cat(points))


def _sides(problem: InversionProblem) -> tuple[Tensor, Tensor]:
    """Return the scaled ends of the box at the prior, (1, P) each."""
    space, prior = problem.space, prior_point(problem)
    reach = _OPEN_SIDE * space.prior_sd_scaled
    lower, upper = space.bounds.resolve(space.priors[:1])
    low = torch.where(torch.isfinite(lower), space.scaler.to_scaled(lower), prior - reach)
    up = torch.where(torch.isfinite(upper), space.scaler.to_scaled(upper), prior + reach)
    return low, up


def _uniform(like: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, like.shape[-1], generator=generator, dtype=torch.float64).to(like)


def _inside(problem: InversionProblem, scaled: Tensor) -> Tensor:
    """Return the points clipped to bounds, which may name other parameters, with fixed parameters at their prior."""
    space = problem.space
    physical = space.bounds.clip(space.scaler.to_physical(scaled))
    return space.scaler.to_scaled(torch.where(space.fixed, space.priors[:1], physical))
