"""The boundary hinge: a price for coming close to a bound, before clipping has to act."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError
from .base import Evaluation, SquaredTerm


class Boundary(SquaredTerm):
    r"""Squared hinge on the distance to the bounds.

    .. math:: L = \sum_i \max(0, m - r_i)^2 + \max(0, r_i - (1 - m))^2, \qquad r_i = (x_i - l_i) / (u_i - l_i)

    Zero inside the box less a margin of m at each side. Keeps the optimum where the surrogate was trained, and keeps a gradient
    where clipping would have none. Parameters without two finite bounds do not count.

    Args:
        margin: Share of the interval at each side in which the price grows, 0 to 0.5.
        weight: Factor of the term in the total.

    Raises:
        ConfigError: If the margin is outside 0 to 0.5.

    Source:
        Ren, Padilla and Malof (2020), Benchmarking deep inverse models over time, and the neural-adjoint method, NeurIPS 33.
    """

    name = "boundary"

    def __init__(self, margin: float = 0.05, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not 0 <= margin <= 0.5:
            raise ConfigError(f"loss term 'boundary': margin is {margin!r}, expected a share between 0 and 0.5.")
        self.margin = margin

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return how far each parameter is inside the margins, (B, P) [-]; at most one of its two margins counts."""
        lower, upper = evaluation.lower, evaluation.upper
        inside = (lower > -float("inf")) & (upper < float("inf")) & (upper > lower)
        width = torch.where(inside, upper - lower, 1.0)
        place = torch.where(inside, (evaluation.physical - torch.where(inside, lower, 0.0)) / width, 0.5)
        return functional.relu(self.margin - place) + functional.relu(place - 1 + self.margin)
