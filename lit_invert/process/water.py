"""Water of the site: rain is intercepted, stored as snow or in one bucket, evaporated, or runs off.

The bucket's wetness limits photosynthesis and decomposition, which is why a carbon model carries it at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .environment import saturation_pressure

if TYPE_CHECKING:
    from .environment import Environment
    from .statics import Statics

LATENT_HEAT = 2.45e6  # J kg-1
AIR_HEAT = 1.2 * 1010.0  # J m-3 K-1
PSYCHROMETRIC = 0.655  # hPa K-1 at 985 hPa
MOLAR_VOLUME = 0.0245  # m3 mol-1
SOIL_CONDUCTANCE = 0.002  # m s-1, of a bare wet soil
DRAG = 0.008  # aerodynamic conductance a unit of wind; a canopy of some metres
SUPPLY = 8.0  # mm d-1 that roots can draw from a full bucket
SHOWERS = 0.3  # showers a day, each of which wets leaves with up to 3 mm


class WaterDay(NamedTuple):
    """Stores at the end of a day and the fluxes that led there; precipitation = change of stores + fluxes."""

    bucket: Tensor  #: [mm]
    snow: Tensor  #: [mm]
    interception: Tensor  #: evaporated from leaves [mm d-1]
    evapotranspiration: Tensor  #: from the bucket [mm d-1]
    runoff: Tensor  #: [mm d-1]


def step_water(
    p: Statics,
    day: Environment,
    bucket: Tensor,
    snow: Tensor,
    leaf_area: Tensor,
    conductance: Tensor,
) -> WaterDay:
    """Move the day's water; what enters equals what is stored plus what leaves, to rounding.

    Args:
        p: The static parameters, each `batch`.
        day: Conditions of the day, each `batch`.
        bucket: Plant-available water at the start [mm].
        snow: Snow at the start [mm].
        leaf_area: Leaf area index [m2 m-2].
        conductance: Stomatal conductance of a leaf [mol m-2 s-1].

    Returns:
        Stores at the end of the day, and its fluxes.
    """
    shaded = -torch.expm1(-leaf_area)
    capacity = 3.0 * SHOWERS * shaded
    interception = day.rain * capacity / (day.rain + capacity + 1e-9)
    melt = (snow + day.snowfall) * torch.sigmoid(0.3 * (day.soil - 10.0))

    canopy = conductance * MOLAR_VOLUME * leaf_area * day.day_length / 24.0
    demand = potential_evaporation(day, canopy + SOIL_CONDUCTANCE * (1.0 - shaded))
    evapotranspiration = smooth_minimum(SUPPLY * bucket / p.w_max, demand)
    filled = bucket - evapotranspiration + day.rain - interception + melt
    runoff = (filled - p.w_max).clamp(min=0.0)
    return WaterDay(filled - runoff, snow + day.snowfall - melt, interception, evapotranspiration, runoff)


def potential_evaporation(day: Environment, surface: Tensor) -> Tensor:
    r"""Penman-Monteith evaporation of a surface with a given conductance.

    .. math:: \lambda E = \frac{s R_n + \rho c_p D g_a}{s + \gamma (1 + g_a/g_s)}

    Args:
        day: Conditions of the day, each `batch`.
        surface: Surface conductance `g_s` [m s-1].

    Returns:
        Evaporation [mm d-1].

    Source:
        Monteith (1965), Symp. Soc. Exp. Biol. 19, 205-234.
    """
    slope = 4098.0 * saturation_pressure(day.air) / (day.air + 237.3) ** 2
    aerodynamic = DRAG * day.wind.clamp(min=0.3)
    energy = slope * day.net_radiation + AIR_HEAT * day.vpd * aerodynamic
    resistance = slope + PSYCHROMETRIC * (1.0 + aerodynamic / surface.clamp(min=1e-5))
    return 86400.0 / LATENT_HEAT * energy / resistance


def smooth_minimum(first: Tensor, second: Tensor, curvature: float = 0.85) -> Tensor:
    r"""The smaller of two non-negative rates, rounded where they meet: never above either.

    .. math:: m = \frac{a + b - \sqrt{(a+b)^2 - 4\kappa a b}}{2\kappa}

    Args:
        first: `a`, any shape.
        second: `b`, same shape.
        curvature: `kappa`; 1 is the sharp minimum.

    Returns:
        The co-limited rate, same shape.

    Example:
        >>> smooth_minimum(torch.tensor(1.0), torch.tensor(1e6)).round(decimals=3)
        tensor(1.)

    Source:
        Collatz et al. (1991), doi:10.1016/0168-1923(91)90002-8.
    """
    total = first + second
    root = torch.sqrt((total**2 - 4.0 * curvature * first * second).clamp(min=1e-12))
    return 2.0 * first * second / (total + root + 1e-9)
