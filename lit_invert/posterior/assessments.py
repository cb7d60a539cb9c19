"""Is it noise? What whitened residuals are if the model is right: standard normal, without memory, season or a driver to follow.

Each assessment takes the whitened residuals of the observed days, (n,), and returns a statistic and its p-value.

Sources:
    Ljung and Box (1978), Biometrika 65, 297-303, doi:10.1093/biomet/65.2.297, for memory.
    Jarque and Bera (1987), Int. Stat. Rev. 55, 163-172, doi:10.2307/1403192, for skewness and kurtosis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .chance import chi_square_survival

#: Lags that the test of memory looks at [observed days].
_LAGS = 10
#: Whitened residuals beyond this are outliers [-].
_OUTLYING = 4.0


def assess_memory(residuals: Tensor) -> tuple[float, float]:
    r"""Return the Ljung-Box statistic, one degree of freedom of which the estimated correlation has used, and its p-value.

    .. math:: Q = n (n + 2) \sum_k \frac{r_k^2}{n - k}
    """
    centred, n = residuals - residuals.mean(), len(residuals)
    lags = range(1, min(_LAGS, n - 1) + 1)
    correlations = [(centred[k:] * centred[:-k]).sum() / centred.square().sum() for k in lags]
    statistic = n * (n + 2) * sum(float(r) ** 2 / (n - k) for k, r in zip(lags, correlations, strict=True))
    return statistic, chi_square_survival(statistic, max(len(lags) - 1, 1))


def assess_normality(residuals: Tensor) -> tuple[float, float]:
    r"""Return the Jarque-Bera statistic :math:`n (S^2 + K^2 / 4) / 6` of skewness S and excess kurtosis K, and its p-value."""
    z = (residuals - residuals.mean()) / residuals.std(correction=0)
    skewness, excess = z.pow(3).mean(), z.pow(4).mean() - 3
    statistic = float(len(residuals) * (skewness.square() + excess.square() / 4) / 6)
    return statistic, chi_square_survival(statistic, 2)


def assess_season(residuals: Tensor, dates: NDArray[np.datetime64]) -> tuple[float, float]:
    r"""Return the chi-square of the months' mean residuals, :math:`\sum_m n_m \bar{e}_m^2`, and its p-value."""
    month = torch.from_numpy(dates.astype("datetime64[M]").astype(int) % 12)
    count = month.bincount(minlength=12)
    sums = torch.zeros(12, dtype=residuals.dtype).index_add(0, month, residuals)
    statistic = float((sums.square() / count.clamp_min(1)).sum())
    return statistic, chi_square_survival(statistic, int((count > 0).sum()))


def assess_outliers(residuals: Tensor) -> tuple[float, float]:
    """Return the number of residuals beyond four standard deviations, and how rarely normal noise has as many."""
    count, n = int((residuals.abs() > _OUTLYING).sum()), len(residuals)
    each = math.erfc(_OUTLYING / math.sqrt(2))
    fewer = sum(math.comb(n, k) * each**k * (1 - each) ** (n - k) for k in range(count))
    return float(count), max(0.0, 1 - fewer)


def assess_drivers(residuals: Tensor, drivers: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Return the rank correlation of residuals with each driver of their days, and its p-value."""
    own = _ranks(residuals)
    correlations = [float(own @ _ranks(driver)) for driver in drivers.values()]
    p_values = [math.erfc(abs(r) * math.sqrt((len(residuals) - 1) / 2)) for r in correlations]
    return {f"follows {name}": (r, p) for name, r, p in zip(drivers, correlations, p_values, strict=True)}


def _ranks(values: Tensor) -> Tensor:
    """Return ranks, equal values sharing theirs, centred and of unit length; zero where all are equal."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks = (last - (counts - 1) / 2)[places]
    centred: Tensor = ranks - ranks.mean()
    length: Tensor = centred.square().sum().sqrt().clamp_min(1e-12)
    return centred / length
