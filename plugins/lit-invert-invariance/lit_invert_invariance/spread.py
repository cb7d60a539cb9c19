"""The size of fluxes: how large they become, and how much they vary.

Two fluxes of very different size are judged alike when a change is counted in standard deviations of the flux over its record. A
flux that hardly varies has no such scale of its own; it is measured against the smallest flux that a tower reports. Values that are
not finite are left out of both numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_invert.observations import SMALLEST_PEAK


def largest_flux(simulated: Tensor) -> Tensor:
    """Return the largest magnitude of each flux over the days, (B, V), of (B, T, V) [gC m-2 d-1]; zero without a finite value."""
    return torch.where(torch.isfinite(simulated), simulated.abs(), 0.0).amax(1)


def flux_spread(simulated: Tensor) -> Tensor:
    """Return the standard deviation of each flux over the days, (B, V), of (B, T, V) [gC m-2 d-1]; never below 0.01.

    Example:
        >>> flux_spread(torch.tensor([[[1.0, 5.0], [3.0, 5.0], [torch.nan, 5.0]]]))
        tensor([[1.0000, 0.0100]], dtype=torch.float64)
    """
    values, known = simulated.double(), simulated.isfinite()
    count = known.sum(1, keepdim=True).clamp_min(1)
    away = values - torch.where(known, values, 0.0).sum(1, keepdim=True) / count
    variance = torch.where(known, away.square(), 0.0).sum(1) / count.squeeze(1)
    return variance.sqrt().clamp_min(SMALLEST_PEAK)
