"""The day's conditions that the process model reads off the drivers.

Drivers are daily means as a weather service gives them (kelvin, specific humidity, mean shortwave); physiology wants
degrees Celsius, vapour pressure deficit, and light as it is at noon. This module is the one place where the first
becomes the second, for all days at once, before the daily loop starts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

DRIVERS = (
    "tmp_sfc",
    "tmp_2m",
    "tmp10_soil",
    "tmp200_soil",
    "dswrf",
    "tcdc",
    "prate",
    "spfh",
    "wind",
    "aco2",
    "day_length",
    "sun_noon",
)
"""Names of the drivers, in the order of the forcing's last axis."""

KELVIN = 273.15
PRESSURE = 985.0  # hPa: both shipped sites lie within 5 % of it, and no driver carries it
SOLAR_CONSTANT = 1361.0  # W m-2
STEFAN_BOLTZMANN = 5.67e-8  # W m-2 K-4
ALBEDO = 0.17
PHENOLOGY_DAYS = 10


class Environment(NamedTuple):
    """Conditions of a day, each a `batch x time` tensor (`batch` alone inside the daily loop)."""

    air: Tensor  #: air temperature [degC]
    soil: Tensor  #: temperature at 10 cm [degC]
    deep_soil: Tensor  #: temperature at 200 cm [degC]
    mean_air: Tensor  #: mean of the last ten days' air temperature [degC]
    lengthening: Tensor  #: 1 while days grow longer, 0 while they shorten
    day_length: Tensor  #: [h]
    light_path: Tensor  #: sine of the sun's height that extinction is corrected with
    noon_par: Tensor  #: photosynthetic photon flux at noon [umol m-2 s-1]
    vpd: Tensor  #: vapour pressure deficit [hPa]
    co2: Tensor  #: [ppm]
    rain: Tensor  #: liquid precipitation [mm d-1]
    snowfall: Tensor  #: [mm d-1]
    net_radiation: Tensor  #: [W m-2]
    wind: Tensor  #: [m s-1]


def read_environment(forcing: Tensor) -> Environment:
    """Derive the conditions that the model's formulas use from the drivers.

    Args:
        forcing: A `batch x time x 12` tensor in the order and units of `DRIVERS`.

    Returns:
        The conditions of every day.
    """
    day = dict(zip(DRIVERS, forcing.unbind(-1), strict=True))
    air = day["tmp_2m"] - KELVIN
    vapour = day["spfh"] * PRESSURE / (0.622 + 0.378 * day["spfh"])
    precipitation = day["prate"] * 86400.0
    snow_share = torch.sigmoid(1.5 - 0.75 * air)
    return Environment(
        air=air,
        soil=day["tmp10_soil"] - KELVIN,
        deep_soil=day["tmp200_soil"] - KELVIN,
        mean_air=_running_mean(air),
        lengthening=_lengthening(day["day_length"]),
        day_length=day["day_length"],
        light_path=torch.sin(0.86 * torch.asin(day["sun_noon"].clamp(-1.0, 1.0))).clamp(0.3, 1.0),
        noon_par=_noon_par(day["dswrf"], day["day_length"], day["sun_noon"]),
        vpd=(saturation_pressure(air) - vapour).clamp(min=0.1),
        co2=day["aco2"],
        rain=precipitation * (1.0 - snow_share),
        snowfall=precipitation * snow_share,
        net_radiation=_net_radiation(day["dswrf"], day["tmp_sfc"], day["tcdc"] / 100.0, vapour),
        wind=day["wind"],
    )


def saturation_pressure(celsius: Tensor) -> Tensor:
    r"""Saturation vapour pressure over water.

    .. math:: e_s = 6.108 \exp\frac{17.27\,T}{T + 237.3}

    Args:
        celsius: Temperature [degC], any shape.

    Returns:
        The pressure [hPa], same shape.

    Example:
        >>> round(saturation_pressure(torch.tensor(20.0)).item(), 1)
        23.4

    Source:
        Allen et al. (1998), FAO Irrigation and Drainage Paper 56, equation 11.
    """
    return 6.108 * torch.exp(17.27 * celsius / (celsius + 237.3))


def top_of_atmosphere(day_length: Tensor, sun_noon: Tensor) -> Tensor:
    r"""Daily mean sunlight outside the atmosphere, from day length and the sun's height at noon alone.

    .. math:: S_0 = \frac{1361}{\pi}\, b\,(\sin h - h \cos h), \quad h = \frac{\pi N}{24}, \quad
        b = \frac{\sin\beta_{noon}}{1 - \cos h}

    Sunset fixes :math:`\sin\varphi\sin\delta = -b\cos h`, so no latitude is needed.

    Args:
        day_length: `N` [h], any shape.
        sun_noon: Sine of the sun's elevation at noon, same shape.

    Returns:
        Mean over 24 hours [W m-2], same shape, at least 1.

    Example:
        >>> equinox_at_equator = top_of_atmosphere(torch.tensor(12.0), torch.tensor(1.0))
        >>> round(equinox_at_equator.item() / 1361.0 * math.pi, 4)
        1.0
    """
    half_day = math.pi * day_length.clamp(1.0, 24.0) / 24.0
    amplitude = sun_noon.clamp(min=0.0) / (1.0 - torch.cos(half_day))
    mean = amplitude * (torch.sin(half_day) - half_day * torch.cos(half_day))
    return (SOLAR_CONSTANT / math.pi * mean).clamp(min=1.0)


def _running_mean(celsius: Tensor) -> Tensor:
    padded = functional.pad(celsius[:, None], (PHENOLOGY_DAYS - 1, 0), mode="replicate")
    return functional.avg_pool1d(padded, PHENOLOGY_DAYS, stride=1)[:, 0]


def _lengthening(day_length: Tensor) -> Tensor:
    # A sigmoid of the daily change, so that the solstices are passed smoothly; 0.005 h is a tenth of the change at
    # an equinox in temperate latitudes.
    change = day_length[:, 1:] - day_length[:, :-1]
    first = change[:, :1] if change.shape[1] else torch.zeros_like(day_length)
    return torch.sigmoid(torch.cat([first, change], dim=1) / 0.005)


def _noon_par(shortwave: Tensor, day_length: Tensor, sun_noon: Tensor) -> Tensor:
    # Diffuse light holds more visible quanta a joule than direct light, and its share falls with the sky's
    # transmissivity (Spitters et al. 1986, doi:10.1016/0168-1923(86)90060-2). A sine-shaped day of N hours has its
    # noon at pi/2 times its mean.
    transmissivity = shortwave / top_of_atmosphere(day_length, sun_noon)
    diffuse = (1.33 - 1.46 * transmissivity).clamp(0.23, 1.0)
    mean_par = shortwave * (diffuse * 4.2 * 0.57 + (1.0 - diffuse) * 4.6 * 0.43)
    return mean_par * 12.0 * math.pi / day_length.clamp(min=1.0)


def _net_radiation(shortwave: Tensor, surface: Tensor, cloud: Tensor, vapour: Tensor) -> Tensor:
    # Net longwave after Brunt with clouds as in FAO 24/56: vapour in kPa, sunshine taken as one minus cloud cover.
    emissivity = (0.34 - 0.14 * torch.sqrt(vapour / 10.0)).clamp(min=0.05)
    longwave = STEFAN_BOLTZMANN * surface**4 * emissivity * (1.0 - 0.9 * cloud)
    return ((1.0 - ALBEDO) * shortwave - longwave).clamp(min=0.0)
