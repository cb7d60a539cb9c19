r"""Where the sun stands: what a day's date and a site's latitude alone decide.

Two drivers need no instrument. The *day length* is the time for which the sun's upper limb is above the horizon; the *noon sun* is
the sine of the sun's elevation when it culminates. Both follow from the declination :math:`\delta`, the latitude at which the sun
stands in the zenith at noon. Beyond the polar circles the hour angle of sunrise has no solution: the day lasts 24 or 0 hours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Irradiance of the sun at the mean distance of the earth [W m-2].
SOLAR_CONSTANT = 1361.0
#: Elevation of the sun's centre at sunrise [rad]: refraction and the radius of the disc, 0.8333 degrees.
_SUNRISE = np.deg2rad(-0.8333)

Days = NDArray[np.datetime64]
Series = NDArray[np.float64]


def declination(dates: Days) -> Series:
    r"""Latitude at which the sun stands in the zenith at noon.

    .. math::
        \delta = 0.006918 - 0.399912\cos\Gamma + 0.070257\sin\Gamma - 0.006758\cos 2\Gamma
                 + 0.000907\sin 2\Gamma - 0.002697\cos 3\Gamma + 0.00148\sin 3\Gamma

    with the day angle :math:`\Gamma = 2\pi (J - 1)/365` of the day of the year J.

    Args:
        dates: A (T,)-dim array of dates.

    Returns:
        A (T,)-dim array [rad], within 0.0006 rad of the almanac.

    Source:
        Spencer (1971), Search 2(5), 172; as printed in Iqbal (1983), An Introduction to Solar Radiation, eq. 1.3.1.
    """
    angle = _day_angle(dates)
    return (
        0.006918
        - 0.399912 * np.cos(angle)
        + 0.070257 * np.sin(angle)
        - 0.006758 * np.cos(2 * angle)
        + 0.000907 * np.sin(2 * angle)
        - 0.002697 * np.cos(3 * angle)
        + 0.00148 * np.sin(3 * angle)
    )


def day_length(dates: Days, latitude: float) -> Series:
    r"""Hours between sunrise and sunset, refraction included.

    .. math::
        N = \frac{24}{\pi}\arccos
            \frac{\sin h_0 - \sin\phi\sin\delta}{\cos\phi\cos\delta}, \qquad h_0 = -0.8333^\circ

    Args:
        dates: A (T,)-dim array of dates.
        latitude: Latitude of the site [degrees north].

    Returns:
        A (T,)-dim array [h], 0 in the polar night and 24 in the polar day.

    Example:
        >>> solstices = np.array(["2016-06-21", "2016-12-21"], dtype="datetime64[D]")
        >>> day_length(solstices, 48.67).round(1).tolist()
        [16.2, 8.3]

    Source:
        Forsythe et al. (1995), Ecol. Modell. 80, 87-95, doi:10.1016/0304-3800(94)00034-F.
    """
    return 24.0 / np.pi * _hour_angle(dates, latitude, _SUNRISE)


def sun_noon(dates: Days, latitude: float) -> Series:
    r"""Sine of the sun's elevation at solar noon.

    .. math:: \sin h = \max(0, \cos(\phi - \delta))

    Args:
        dates: A (T,)-dim array of dates.
        latitude: Latitude of the site [degrees north].

    Returns:
        A (T,)-dim array [-] from 0 (the sun does not rise) to 1 (zenith).
    """
    return np.asarray(np.maximum(np.cos(np.deg2rad(latitude) - declination(dates)), 0.0))


def top_of_atmosphere(dates: Days, latitude: float) -> Series:
    r"""Daily mean irradiance on a level plane above the atmosphere.

    .. math:: S_0 = \frac{S}{\pi}\,\epsilon\,(H\sin\phi\sin\delta + \cos\phi\cos\delta\sin H)

    with the hour angle H of geometric sunrise and the factor :math:`\epsilon` of the earth's distance.

    Args:
        dates: A (T,)-dim array of dates.
        latitude: Latitude of the site [degrees north].

    Returns:
        A (T,)-dim array [W m-2].

    Source:
        Iqbal (1983), An Introduction to Solar Radiation, eqs. 1.2.1 and 4.2.16.
    """
    angle, hour = _day_angle(dates), _hour_angle(dates, latitude, 0.0)
    distance = (
        1.000110 + 0.034221 * np.cos(angle) + 0.001280 * np.sin(angle) + 0.000719 * np.cos(2 * angle) + 0.000077 * np.sin(2 * angle)
    )
    sines, cosines = _products(dates, latitude)
    return SOLAR_CONSTANT / np.pi * distance * (hour * sines + cosines * np.sin(hour))


def _day_angle(dates: Days) -> Series:
    day_of_year: Series = (dates.astype("datetime64[D]") - dates.astype("datetime64[Y]")).astype(np.float64)
    return 2.0 * np.pi * day_of_year / 365.0


def _products(dates: Days, latitude: float) -> tuple[Series, Series]:
    phi, delta = np.deg2rad(latitude), declination(dates)
    return np.sin(phi) * np.sin(delta), np.cos(phi) * np.cos(delta)


def _hour_angle(dates: Days, latitude: float, elevation: float) -> Series:
    sines, cosines = _products(dates, latitude)
    # cos(90 degrees) is 6e-17 in floating point, so the quotient stays finite at the poles and the clip decides.
    return np.asarray(np.arccos(np.clip((np.sin(elevation) - sines) / cosines, -1.0, 1.0)))
