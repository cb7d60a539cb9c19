r"""What anyone could predict without a process model: the rivals that an inversion has to beat on days that neither has seen.

Two of them learn from the observed `fit` days alone, and then say something for every day of the record:

* the mean seasonal cycle, a circular mean over the day of the year with von Mises weights,

  .. math:: \hat o(t) = \frac{\sum_u w_{tu} o_u}{\sum_u w_{tu}}, \qquad
      w_{tu} = \exp\left(\kappa (\cos(\varphi_t - \varphi_u) - 1)\right), \qquad \kappa = (365.25 / 2 \pi s)^2

  with a width s of fifteen days. Each value lies between the least and the most that was observed, and where a season was never
  observed the nearest one speaks for it, so a dozen days are enough;

* the linear regression on the drivers, with a ridge that generalised cross-validation chooses,

  .. math:: \mathrm{GCV}(\lambda) = \frac{n \|o - \hat o_\lambda\|^2}{(n - 1 - \sum_j d_j^2 / (d_j^2 + \lambda))^2}

  where d are the singular values of the standardised drivers of the `fit` days. Drivers beyond what those days saw count as the
  nearest that they saw: a line fitted to a summer says nothing of a winter.

The third rival, the prior run, is simulated anyway.

Source:
    Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter, Technometrics 21,
    215-223, doi:10.1080/00401706.1979.10489751.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: Names of the baselines that are learnt from the `fit` days, as the columns of fluxes.csv end, and what they are.
BASELINES = {"season": "mean seasonal cycle", "regression": "linear regression on the drivers"}
#: Width of the window of the seasonal cycle [d].
WIDTH = 15.0
_DAYS_A_YEAR = 365.25
#: Ridges that are compared, as shares of the largest squared singular value.
_RIDGES = np.logspace(-8, 2, 61)


def predict_baselines(
    dates: NDArray[np.datetime64], forcing: Values, observed: Values, mask: NDArray[np.bool_]
) -> dict[str, Values]:
    """Return what each baseline predicts for every day.

    Args:
        dates: Consecutive days, (T,).
        forcing: Drivers in physical units, (T, F).
        observed: The flux, (T,) [gC m-2 d-1]; read on the days of `mask` alone.
        mask: True on observed `fit` days, (T,).

    Returns:
        By the names of :data:`BASELINES`, a (T,)-dim array each [gC m-2 d-1]; NaN without an observed day.
    """
    if not mask.any():
        return {name: np.full(len(dates), np.nan) for name in BASELINES}
    return {
        "season": seasonal_cycle(dates, dates[mask], observed[mask]),
        "regression": linear_regression(forcing, forcing[mask], observed[mask]),
    }


def seasonal_cycle(dates: NDArray[np.datetime64], days: NDArray[np.datetime64], observed: Values) -> Values:
    """Return the mean seasonal cycle of n observed days on T days.

    Args:
        dates: Where it is asked for, (T,).
        days: Observed days, (n,).
        observed: The flux on them, (n,).

    Returns:
        A (T,)-dim array in the flux's unit.

    Example:
        >>> days = np.array(["2001-01-01", "2001-07-01"], dtype="datetime64[D]")
        >>> seasonal_cycle(days, days, np.array([-1.0, 3.0])).round(6).tolist()
        [-1.0, 3.0]
    """
    asked, place = np.unique(_day_of_year(dates), return_inverse=True)
    angle = (asked[:, None] - _day_of_year(days)) * (2 * np.pi / _DAYS_A_YEAR)
    weight = np.exp((_DAYS_A_YEAR / (2 * np.pi * WIDTH)) ** 2 * (np.cos(angle) - 1))
    return np.asarray((weight @ observed / weight.sum(1))[place])


def linear_regression(forcing: Values, known: Values, observed: Values) -> Values:
    """Return the ridge regression of n observed days on T days.

    Args:
        forcing: Drivers where it is asked for, (T, F).
        known: Drivers of the observed days, (n, F).
        observed: The flux on them, (n,).

    Returns:
        A (T,)-dim array in the flux's unit; the mean of the observed days where the drivers tell nothing.

    Example:
        >>> light = np.arange(10.0)[:, None]
        >>> linear_regression(light, light[:8], 2 * light[:8, 0] - 3).round(3).tolist()[:3]
        [-3.0, -1.0, 1.0]
    """
    mean, spread = known.mean(0), known.std(0)
    varies = spread > 1e-9 * np.maximum(np.abs(mean), 1e-9)  # the spread of equal numbers is rounding
    if not varies.any():
        return np.full(len(forcing), observed.mean())
    learnt = ((known - mean) / np.where(varies, spread, 1.0))[:, varies]
    asked = np.clip(forcing, known.min(0), known.max(0))
    asked = ((asked - mean) / np.where(varies, spread, 1.0))[:, varies]
    return np.asarray(observed.mean() + asked @ _ridge(learnt, observed - observed.mean()))


def _ridge(drivers: Values, flux: Values) -> Values:
    """Return the coefficients with the ridge of least generalised cross-validation; both sides are centred."""
    left, size, right = np.linalg.svd(drivers, full_matrices=False)
    along = left.T @ flux
    beyond = flux @ flux - along @ along  # what no ridge can explain
    ridges = _RIDGES * size[0] ** 2
    kept = size**2 / (size**2 + ridges[:, None])
    misfit = beyond + np.square((1 - kept) * along).sum(1)
    freedom = len(flux) - 1 - kept.sum(1)
    scores = np.where(freedom > 0, misfit / np.where(freedom > 0, freedom, 1.0) ** 2, np.inf)
    best = kept[scores.argmin()] if np.isfinite(scores).any() else kept[-1]
    return np.asarray(right.T @ (best / np.maximum(size, np.finfo(float).tiny) * along))


def _day_of_year(dates: NDArray[np.datetime64]) -> NDArray[np.int64]:
    days = dates.astype("datetime64[D]")
    return np.asarray((days - days.astype("datetime64[Y]")).astype(np.int64))
