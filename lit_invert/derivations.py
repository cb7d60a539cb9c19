"""Drivers from other drivers: what to put where no instrument stood.

Towers rarely measure all that a model wants. Each entry of :data:`DERIVATIONS` makes one driver from others (or from date and
latitude alone), by a formula with a source, and says so in a note that travels with the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import solar
from .errors import ForcingError

Series = NDArray[np.float64]

#: Time constants of the soil's response [d]: 10 cm to the air, fitted at US-AR1, and 200 cm to 10 cm, fitted at FR-Hes.
SOIL_10_DAYS, SOIL_200_DAYS = 4.0, 35.0
#: Annual mean CO2 at Mauna Loa by year [ppm] (NOAA Global Monitoring Laboratory, trends in atmospheric carbon dioxide).
_BACKGROUND_CO2 = {
    1990: 354.4, 1995: 361.0, 2000: 369.7, 2005: 380.0, 2010: 390.1, 2015: 401.0, 2020: 414.2, 2023: 421.1,
}  # fmt: skip


def low_pass(values: Series, days: float) -> Series:
    r"""Damp and delay a daily series as a store with one time constant does.

    .. math:: y_t = e^{-1/\tau} y_{t-1} + (1 - e^{-1/\tau}) x_t

    The state before the first day is the one that repeating the record for ever would leave, so no start value is needed.

    Args:
        values: A (T,)-dim array.
        days: Time constant :math:`\tau` [d].

    Returns:
        A (T,)-dim array with the same mean.

    Example:
        >>> low_pass(np.array([0.0, 1.0, 0.0, 1.0]), 1.0).round(3).tolist()
        [0.269, 0.731, 0.269, 0.731]
    """
    keep = np.exp(-1.0 / days)

    def run(state: float) -> Series:
        out = np.empty(len(values))
        for day, value in enumerate(values):
            state = keep * state + (1.0 - keep) * value
            out[day] = state
        return out

    return run(run(0.0)[-1] / (1.0 - keep ** len(values)))


def saturation_vapour_pressure(temperature: Series) -> Series:
    r"""Vapour pressure over water at saturation.

    .. math:: e_s = 611.21 \exp\left[\left(18.678 - \frac{t}{234.5}\right)\frac{t}{257.14 + t}\right], \quad t = T - 273.15

    Args:
        temperature: An array of any shape [K].

    Returns:
        An array of the same shape [Pa].

    Source:
        Buck (1981), J. Appl. Meteorol. 20, 1527-1532, doi:10.1175/1520-0450(1981)020<1527:NEFCVP>2.0.CO;2, with the coefficients of
        the Buck Research CR-1A manual (1996).
    """
    celsius = temperature - 273.15
    return 611.21 * np.exp((18.678 - celsius / 234.5) * celsius / (257.14 + celsius))


def specific_humidity(vapour: Series, pressure: Series) -> Series:
    r"""Mass of water vapour in a mass of moist air.

    .. math:: q = 0.622\,e / (p - 0.378\,e)

    Args:
        vapour: Vapour pressure, an array of any shape [Pa].
        pressure: Air pressure, same shape [Pa].

    Returns:
        An array of the same shape [kg kg-1].
    """
    return 0.622 * vapour / (pressure - 0.378 * vapour)


def cloud_cover(shortwave: Series, dates: NDArray[np.datetime64], latitude: float) -> Series:
    r"""Cloud cover that explains how much of the sun's radiation arrives.

    .. math:: S / S_0 = 0.8964 - 0.5392\,c

    In the polar night nothing can arrive and half a sky of cloud is assumed.

    Args:
        shortwave: Daily mean irradiance at the ground, (T,)-dim [W m-2].
        dates: A (T,)-dim array of dates.
        latitude: Latitude of the site [degrees north].

    Returns:
        A (T,)-dim array from 0 to 100 [%].

    Source:
        Sato, Itoh and Kohyama (2007), Ecol. Modell. 200, 279-307, doi:10.1016/j.ecolmodel.2006.09.006.
    """
    above = solar.top_of_atmosphere(dates, latitude)
    lit = above > 1.0
    clearness = shortwave / np.where(lit, above, 1.0)
    return np.where(lit, np.clip((0.8964 - clearness) / 0.5392, 0.0, 1.0), 0.5) * 100.0


def background_co2(dates: NDArray[np.datetime64]) -> Series:
    """Concentration of CO2 in background air, interpolated between annual means at Mauna Loa.

    Args:
        dates: A (T,)-dim array of dates from 1990 to 2023.

    Returns:
        A (T,)-dim array [ppm], within about 1 ppm of the annual mean; the seasonal cycle is left out.

    Raises:
        ForcingError: If a date lies outside the years covered.
    """
    years: Series = 1970.0 + dates.astype("datetime64[D]").astype(np.float64) / 365.2425
    if years.min() < min(_BACKGROUND_CO2) or years.max() > max(_BACKGROUND_CO2) + 1.0:
        raise ForcingError(
            f"data.drivers.aco2: no column gives CO2, and the background series covers {min(_BACKGROUND_CO2)} to "
            f"{max(_BACKGROUND_CO2)}, not {dates[0]} to {dates[-1]}. Map a column, or give `constant`."
        )
    middles = np.array(list(_BACKGROUND_CO2), dtype=np.float64) + 0.5
    interpolated: Series = np.interp(years, middles, list(_BACKGROUND_CO2.values()))
    return interpolated


@dataclass(frozen=True)
class Derivation:
    """How to make one driver from others."""

    driver: str
    needs: tuple[str, ...]
    """Drivers that it takes, in the units of `forcing.DRIVERS`."""
    note: str
    """What to tell the reader of the results; empty where nothing was assumed."""
    compute: Callable[[NDArray[np.datetime64], float, Sequence[Series]], Series]


#: Every derivation by the driver that it makes.
DERIVATIONS: Mapping[str, Derivation] = {
    d.driver: d
    for d in (
        Derivation("day_length", (), "", lambda dates, latitude, _: solar.day_length(dates, latitude)),
        Derivation("sun_noon", (), "", lambda dates, latitude, _: solar.sun_noon(dates, latitude)),
        Derivation(
            "aco2", (), "is the background concentration (Mauna Loa, annual means)", lambda dates, _, __: background_co2(dates)
        ),
        Derivation("tmp_sfc", ("tmp_2m",), "is set to `tmp_2m`", lambda _, __, x: x[0]),
        Derivation(
            "tmp10_soil",
            ("tmp_2m",),
            f"is `tmp_2m` through a low-pass filter of {SOIL_10_DAYS:g} days",
            lambda _, __, x: low_pass(x[0], SOIL_10_DAYS),
        ),
        Derivation(
            "tmp200_soil",
            ("tmp10_soil",),
            f"is `tmp10_soil` through a low-pass filter of {SOIL_200_DAYS:g} days",
            lambda _, __, x: low_pass(x[0], SOIL_200_DAYS),
        ),
        Derivation(
            "tcdc",
            ("dswrf",),
            "is inferred from `dswrf` and the sun's height",
            lambda dates, latitude, x: cloud_cover(x[0], dates, latitude),
        ),
        Derivation(
            "vpd",
            ("tmp_2m", "relative_humidity"),
            "is computed from `tmp_2m` and `relative_humidity`",
            lambda _, __, x: saturation_vapour_pressure(x[0]) * (1.0 - np.minimum(x[1], 100.0) / 100.0),
        ),
        Derivation(
            "spfh",
            ("tmp_2m", "vpd", "pressure"),
            "is computed from `tmp_2m`, `vpd` and `pressure`",
            lambda _, __, x: specific_humidity(np.maximum(saturation_vapour_pressure(x[0]) - x[1], 0.0), x[2]),
        ),
    )
}
