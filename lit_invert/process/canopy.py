"""Photosynthesis of a big leaf: light, temperature, carbon dioxide and water set the rate, stomata set Ci.

The forms are those of Sim-CYCLE (Ito and Oikawa 2002, doi:10.1016/S0304-3800(01)00473-2) as SEIB-DGVM restates them
(Sato, Itoh and Kohyama 2007, doi:10.1016/j.ecolmodel.2006.09.006).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .environment import Environment
    from .statics import Statics

MINIMUM_CONDUCTANCE = 0.01  # mol m-2 s-1, of closed stomata
DIFFUSIVITY_RATIO = 1.56  # water vapour to carbon dioxide, in air
STOMATAL_ITERATIONS = 5
HOURLY_CARBON = 3600.0 * 12e-6  # gC m-2 h-1 in one umol m-2 s-1


class Canopy(NamedTuple):
    """What the canopy does on a day."""

    gpp: Tensor  #: gross primary production [gC m-2 d-1]
    conductance: Tensor  #: stomatal conductance of a leaf to water [mol m-2 s-1]


def photosynthesise(p: Statics, day: Environment, leaf_area: Tensor, wetness: Tensor) -> Canopy:
    r"""Gross primary production of the day, and the stomatal conductance that goes with it.

    .. math::
        P = p_{max} f_T f_C f_W, \quad
        GPP = \frac{2 N P}{K}\,
            \ln\frac{1+\sqrt{1+K Q\,I/P}}{1+\sqrt{1+K Q\,I e^{-K L}/P}}

    Internal carbon dioxide and the leaf's rate depend on each other (Leuning's stomata); five rounds settle both.

    Args:
        p: The static parameters, each `batch`.
        day: Conditions of the day, each `batch`.
        leaf_area: Leaf area index `L` [m2 m-2].
        wetness: Share of the bucket that is filled, 0 to 1.

    Returns:
        Production and conductance, each `batch`.

    Source:
        Monsi and Saeki (1953) and Kuroiwa (1966) for the canopy integral; Leuning (1995),
        doi:10.1111/j.1365-3040.1995.tb00370.x for the stomata.
    """
    extinction = p.ek0 / day.light_path
    compensation = compensation_point(p, day.air)
    capacity = p.pmax * temperature_response(p, day.air) * water_response(p.km_nstl, wetness)
    light_yield = p.lue * _temperature_yield(day.air)
    # Mean light on a leaf: the noon value of a sine-shaped day is pi/2 times the mean over daylight.
    layers = (extinction * leaf_area).clamp(min=1e-3)
    leaf_par = day.noon_par * (2.0 / torch.pi) * extinction * -torch.expm1(-layers) / layers
    openness = p.gs_b1 / ((day.co2 - compensation) * (1.0 + day.vpd / p.gs_b2))

    internal = 0.7 * day.co2
    for _ in range(STOMATAL_ITERATIONS):
        saturated = capacity * carbon_response(p, internal, compensation)
        quantum = light_yield * internal / (90.0 + 0.6 * internal)
        rate = saturated * quantum * leaf_par / (saturated + quantum * leaf_par + 1e-9)
        conductance = MINIMUM_CONDUCTANCE + openness * rate
        internal = torch.maximum(day.co2 - DIFFUSIVITY_RATIO * rate / conductance, compensation)

    saturated = (capacity * carbon_response(p, internal, compensation)).clamp(min=1e-6)
    quantum = light_yield * internal / (90.0 + 0.6 * internal)
    top = extinction * quantum * day.noon_par / saturated
    bottom = top * torch.exp(-extinction * leaf_area)
    ratio = (1.0 + torch.sqrt(1.0 + top)) / (1.0 + torch.sqrt(1.0 + bottom))
    gpp = 2.0 * day.day_length * HOURLY_CARBON * saturated / extinction * torch.log(ratio)
    return Canopy(gpp, conductance)


def temperature_response(p: Statics, celsius: Tensor) -> Tensor:
    r"""Share of the photosynthetic capacity that a temperature allows: 1 at `topt`, 0 beyond `tmin` and `tmax`.

    .. math:: f_T = \frac{(T-T_{max})(T-T_{min})}{(T-T_{max})(T-T_{min})-(T-T_{opt})^2}

    Args:
        p: The static parameters, each `batch`.
        celsius: Air temperature [degC].

    Returns:
        The share, `batch`.
    """
    bounded = torch.minimum(torch.maximum(celsius, p.tmin), p.tmax)
    span = (bounded - p.tmax) * (bounded - p.tmin)
    return span / (span - (bounded - p.topt) ** 2)


def water_response(half: Tensor, wetness: Tensor) -> Tensor:
    """Saturating response to the bucket's wetness, 1 when it is full; `half` sets how early a drying soil limits."""
    return wetness * (1.0 + half) / (wetness + half)


def compensation_point(p: Statics, celsius: Tensor) -> Tensor:
    """Carbon dioxide at which photosynthesis balances photorespiration [ppm]."""
    warmer = celsius - 20.0
    return (p.cmpcd0 * (1.0 + 0.0451 * warmer + 0.000347 * warmer**2)).clamp(min=1.0)


def carbon_response(p: Statics, internal: Tensor, compensation: Tensor) -> Tensor:
    """Share of the capacity that the carbon dioxide inside the leaf allows (C3)."""
    return 0.3 + 0.7 * (internal - compensation) / (p.kmci + internal)


def _temperature_yield(celsius: Tensor) -> Tensor:
    below_limit = (52.0 - celsius).clamp(min=1.0)
    return below_limit / (3.5 + 0.75 * below_limit)
