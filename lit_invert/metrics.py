"""How well simulated fluxes match observed ones: scores and their edge cases.

All work in float64 on two (n,)-dim arrays of the same days, in the flux's own unit, and return NaN where a score has no meaning:
all of them without a day, and those that divide by a spread (r, NSE, KGE) when that spread is zero. JSON files have null for NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Fewest calendar months that show a season's amplitude.
_FEWEST_MONTHS = 6


def rmse(simulated: ArrayLike, observed: ArrayLike) -> float:
    r"""Root mean squared error.

    .. math:: \sqrt{\frac{1}{n} \sum_t (s_t - o_t)^2}

    Args:
        simulated: An (n,)-dim array [e.g. gC m-2 d-1].
        observed: An array of the same shape and unit, without NaN.

    Returns:
        The error in the same unit; NaN when n is 0.

    Example:
        >>> rmse([1.0, 2.0], [0.0, 0.0]) == 2.5 ** 0.5
        True
    """
    pair = _pair(simulated, observed)
    return math.sqrt(np.mean(np.square(pair[0] - pair[1]))) if pair.size else math.nan


def bias(simulated: ArrayLike, observed: ArrayLike) -> float:
    """Mean of simulated minus observed.

    Args:
        simulated: An (n,)-dim array [e.g. gC m-2 d-1].
        observed: An array of the same shape and unit, without NaN.

    Returns:
        The bias in the same unit, positive when the simulation is too high; NaN when n is 0.

    Example:
        >>> bias([3.0, 1.0], [1.0, 1.0])
        1.0
    """
    pair = _pair(simulated, observed)
    return float(np.mean(pair[0] - pair[1])) if pair.size else math.nan


def pearson_r(simulated: ArrayLike, observed: ArrayLike) -> float:
    """Pearson's linear correlation.

    Args:
        simulated: An (n,)-dim array.
        observed: An array of the same shape, without NaN.

    Returns:
        A number from -1 to 1; NaN when either side does not vary.

    Example:
        >>> pearson_r([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
        1.0
    """
    s, o = _pair(simulated, observed)
    if _is_constant(s) or _is_constant(o):
        return math.nan
    s, o = s - s.mean(), o - o.mean()
    return float(np.clip(s @ o / math.sqrt((s @ s) * (o @ o)), -1.0, 1.0))


def nse(simulated: ArrayLike, observed: ArrayLike) -> float:
    r"""Nash-Sutcliffe efficiency: the share of the observed variance that is explained.

    .. math:: 1 - \frac{\sum_t (s_t - o_t)^2}{\sum_t (o_t - \bar o)^2}

    Args:
        simulated: An (n,)-dim array.
        observed: An array of the same shape, without NaN.

    Returns:
        One for a perfect fit, zero for one no better than the observed mean, negative for worse; NaN when `observed` does not vary.

    Example:
        >>> nse([2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
        0.0

    Source:
        Nash and Sutcliffe (1970), J. Hydrology 10, 282-290, doi:10.1016/0022-1694(70)90255-6.
    """
    s, o = _pair(simulated, observed)
    if _is_constant(o):
        return math.nan
    return float(1.0 - np.sum(np.square(s - o)) / np.sum(np.square(o - o.mean())))


def kge(simulated: ArrayLike, observed: ArrayLike) -> float:
    r"""Kling-Gupta efficiency: correlation, spread and mean in one number.

    .. math:: 1 - \sqrt{(r - 1)^2 + (\sigma_s / \sigma_o - 1)^2 + (\mu_s / \mu_o - 1)^2}

    The ratio of means makes it harsh for a flux whose mean is near zero, as NEP's often is; read it beside the bias.

    Args:
        simulated: An (n,)-dim array.
        observed: An array of the same shape, without NaN.

    Returns:
        One for a perfect fit, without lower limit; NaN when either side does not vary or the observed mean is zero.

    Example:
        >>> kge([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == 1 - 2**0.5
        True

    Source:
        Gupta et al. (2009), J. Hydrology 377, 80-91, doi:10.1016/j.jhydrol.2009.08.003.
    """
    s, o = _pair(simulated, observed)
    r = pearson_r(s, o)
    if math.isnan(r) or o.mean() == 0:
        return math.nan
    return 1.0 - math.hypot(r - 1.0, s.std() / o.std() - 1.0, s.mean() / o.mean() - 1.0)


def scores(simulated: ArrayLike, observed: ArrayLike, mask: ArrayLike) -> dict[str, float]:
    """Return all scores over the observed days.

    Args:
        simulated: A (T,)-dim array [e.g. gC m-2 d-1].
        observed: An array of the same shape and unit; may be NaN where `mask` is false.
        mask: A boolean array of the same shape, true where observed.

    Returns:
        `n` (the number of days), `rmse`, `bias`, `r`, `nse` and `kge`.

    Example:
        >>> scores([1.0, 9.0], [1.0, float("nan")], [True, False])
        {'n': 1, 'rmse': 0.0, 'bias': 0.0, 'r': nan, 'nse': nan, 'kge': nan}
    """
    days = np.asarray(mask, dtype=bool)
    s, o = np.asarray(simulated, dtype=np.float64)[days], np.asarray(observed, dtype=np.float64)[days]
    return {
        "n": int(days.sum()),
        "rmse": rmse(s, o),
        "bias": bias(s, o),
        "r": pearson_r(s, o),
        "nse": nse(s, o),
        "kge": kge(s, o),
    }


def mae(simulated: ArrayLike, observed: ArrayLike) -> float:
    """Mean absolute error.

    Args:
        simulated: An (n,)-dim array [e.g. gC m-2 d-1].
        observed: An array of the same shape and unit, without NaN.

    Returns:
        The error in the same unit; NaN when n is 0.

    Example:
        >>> mae([3.0, 1.0], [1.0, 2.0])
        1.5
    """
    pair = _pair(simulated, observed)
    return float(np.mean(np.abs(pair[0] - pair[1]))) if pair.size else math.nan


def unbiased_rmse(simulated: ArrayLike, observed: ArrayLike) -> float:
    r"""Root mean squared error that is left once the bias is taken away.

    .. math:: \sqrt{\mathrm{RMSE}^2 - \mathrm{bias}^2}

    Args:
        simulated: An (n,)-dim array [e.g. gC m-2 d-1].
        observed: An array of the same shape and unit, without NaN.

    Returns:
        The error in the same unit; NaN when n is 0.

    Example:
        >>> unbiased_rmse([3.0, 1.0], [1.0, 1.0])
        1.0
    """
    pair = _pair(simulated, observed)
    return float(np.std(pair[0] - pair[1])) if pair.size else math.nan


def slope(simulated: ArrayLike, observed: ArrayLike) -> float:
    """Slope of the least-squares line of simulated on observed.

    Args:
        simulated: An (n,)-dim array.
        observed: An array of the same shape, without NaN.

    Returns:
        One where a step of the observed flux is followed in full; NaN when `observed` does not vary.

    Example:
        >>> slope([0.0, 1.0, 2.0], [0.0, 2.0, 4.0])
        0.5
    """
    s, o = _pair(simulated, observed)
    if _is_constant(o):
        return math.nan
    o = o - o.mean()
    return float(o @ (s - s.mean()) / (o @ o))


def amplitude_ratio(simulated: ArrayLike, observed: ArrayLike, months: ArrayLike) -> float:
    """Seasonal amplitude of the simulated flux over that of the observed one.

    The amplitude is the range of the means by calendar month, over the same days on both sides.

    Args:
        simulated: An (n,)-dim array.
        observed: An array of the same shape, without NaN.
        months: Calendar month of each day, (n,).

    Returns:
        One for the right amplitude; NaN where fewer than six months have a day, or the observed means do not vary.

    Example:
        >>> amplitude_ratio([0, 1, 2, 3, 4, 5], [0, 2, 4, 6, 8, 10], [1, 2, 3, 4, 5, 6])
        0.5
    """
    s, o = _pair(simulated, observed)
    _, place = np.unique(np.asarray(months), return_inverse=True)
    days = np.bincount(place)
    if len(days) < _FEWEST_MONTHS:
        return math.nan
    ranges = [np.ptp(np.bincount(place, values) / days) for values in (s, o)]
    return float(ranges[0] / ranges[1]) if ranges[1] > 0 else math.nan


def chi_squared(simulated: ArrayLike, observed: ArrayLike, sigma: ArrayLike, parameters: float = 0) -> float:
    r"""Chi squared per degree of freedom: near one where the residuals are as large as the observations' errors.

    .. math:: \frac{1}{n - k} \sum_t \left( \frac{s_t - o_t}{\sigma_t} \right)^2

    Args:
        simulated: An (n,)-dim array.
        observed: An array of the same shape, without NaN.
        sigma: Standard deviation of each observation, (n,), in the same unit; days where it is not positive are left out.
        parameters: Effective number k of parameters that the fit has used up; 0 on days that it has not seen.

    Returns:
        The ratio; NaN where no degree of freedom is left.

    Example:
        >>> chi_squared([1.0, 3.0], [0.0, 0.0], [1.0, 3.0])
        1.0
    """
    s, o = _pair(simulated, observed)
    width = np.asarray(sigma, dtype=np.float64)
    known = width > 0
    freedom = int(known.sum()) - parameters
    return float(np.sum(np.square((s[known] - o[known]) / width[known])) / freedom) if freedom > 0 else math.nan


def _pair(simulated: ArrayLike, observed: ArrayLike) -> NDArray[np.float64]:
    """Stack both sides to a (2, n) array; numpy raises where they differ in shape."""
    return np.stack([np.asarray(simulated, dtype=np.float64), np.asarray(observed, dtype=np.float64)])


def _is_constant(values: NDArray[np.float64]) -> bool:
    # Not by the variance: the mean of equal numbers is rounded, so theirs need not be exactly zero.
    return values.size == 0 or bool(np.ptp(values) == 0)


def flux_name(output: str) -> str:
    """Return a flux as people write it.

    Example:
        >>> flux_name("nep"), flux_name("rh"), flux_name("reco")
        ('NEP', 'Rh', 'Reco')
    """
    return {"rh": "Rh", "reco": "Reco"}.get(output, output.upper())
