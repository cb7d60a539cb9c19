"""Residuals as a distribution: histogram, quantiles, and correlation from day to day."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..style import BLACK, BLUE, GREY, VERMILLION, legend_below, new_figure, styled
from .fluxes import markers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LAGS = 30
#: Fewest pairs of days that a correlation is shown for.
_LEAST_PAIRS = 10


@styled
def distribution_figure(
    fluxes: pd.DataFrame, output: str, noise_sd: NDArray[np.float64] | None = None, rho: float | None = None
) -> Figure | None:
    """Draw the residuals at the optimum as histogram, against normal quantiles, and their correlation from day to day.

    Args:
        fluxes: Content of fluxes.csv.
        output: Name of the flux.
        noise_sd: Standard deviation of an observation by the noise model, (T,); the residuals' own RMSE when omitted.
        rho: Correlation of neighbouring days by the noise model, if there is one.

    Returns:
        The figure; None with fewer than ten observed `fit` days.
    """
    residuals = {role: standardise(fluxes, output, role, noise_sd) for role in ("fit", "test")}
    known = {role: z[np.isfinite(z)] for role, z in residuals.items()}
    if len(known["fit"]) < _LEAST_PAIRS:
        return None
    figure = new_figure(10, 3.6)
    histogram, quantiles, correlation = figure.subplots(1, 3)
    _draw_histogram(histogram, known, "noise sd" if noise_sd is not None else "their RMSE")
    _draw_quantiles(quantiles, known)
    _draw_correlation(correlation, residuals["fit"], rho)
    legend_below(figure, histogram, correlation)
    return figure


def standardise(fluxes: pd.DataFrame, output: str, role: str, noise_sd: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return simulated minus observed at the optimum over its standard deviation, (T,); NaN on days that are not the role's."""
    is_role = (fluxes["role"] == role) & fluxes[f"{output}_mask"].astype(bool)
    residual = (fluxes[f"{output}_optimum"] - fluxes[f"{output}_observed"]).where(is_role).to_numpy(dtype=np.float64)
    if noise_sd is not None:
        return np.where(noise_sd > 0, residual / np.where(noise_sd > 0, noise_sd, 1), np.nan)
    error = np.sqrt(np.nanmean(residual**2)) if np.isfinite(residual).any() else 0.0
    return residual / error if error > 0 else np.full_like(residual, np.nan)


def autocorrelation(z: NDArray[np.float64], lags: int = _LAGS) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    r"""Return the correlation of residuals that lie some days apart, over the pairs of days that are both known.

    .. math:: r_k = \frac{\overline{z_t z_{t+k}}}{\overline{z_t^2}}, \qquad z \text{ without its mean}

    Args:
        z: Residuals, (T,), NaN on days without one.
        lags: Largest distance [d].

    Returns:
        Correlation at 1 to `lags` days, NaN where fewer than ten pairs are known, and the number of pairs.
    """
    known = np.isfinite(z)
    centred = np.where(known, z - z[known].mean(), 0.0)
    variance = np.square(centred[known]).mean()
    pairs = np.array([np.sum(known[:-k] & known[k:]) for k in range(1, lags + 1)])
    products = np.array([np.sum(centred[:-k] * centred[k:]) for k in range(1, lags + 1)])
    enough = (pairs >= _LEAST_PAIRS) & (variance > 0)
    return np.where(enough, products / np.maximum(pairs, 1) / max(variance, 1e-300), np.nan), pairs


def _draw_histogram(axis: Axes, known: Mapping[str, NDArray[np.float64]], over: str) -> None:
    reach = max(3.5, float(np.ceil(max(np.abs(z).max() for z in known.values() if len(z)))))
    edges, line = np.linspace(-reach, reach, 31).tolist(), np.linspace(-reach, reach, 200)
    axis.hist(known["fit"], edges, density=True, color="#BBBBBB", label="fit days")
    if len(known["test"]):
        axis.hist(known["test"], edges, density=True, histtype="step", color=VERMILLION, linewidth=1.4, label="test days")
    axis.plot(line, np.exp(-(line**2) / 2) / np.sqrt(2 * np.pi), color=BLACK, linewidth=1, label="standard normal")
    axis.set(title="Residuals at the optimum", xlabel=f"(simulated minus observed) / {over}", ylabel="density")


def _draw_quantiles(axis: Axes, known: Mapping[str, NDArray[np.float64]]) -> None:
    normal = NormalDist()
    for role, z in known.items():
        expected = [normal.inv_cdf((i + 0.5) / len(z)) for i in range(len(z))]
        axis.plot(expected, np.sort(z), alpha=0.8, **markers(role, 1000))
    ends = np.array([-3.0, 3.0])
    axis.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
    axis.set(title="Q-Q", xlabel="quantile of a standard normal", ylabel="quantile of the residuals")


def _draw_correlation(axis: Axes, z: NDArray[np.float64], rho: float | None) -> None:
    found, pairs = autocorrelation(z)
    lag = np.arange(1, len(found) + 1)
    bound = 1.96 / np.sqrt(np.maximum(pairs, 1))
    axis.fill_between(lag, -bound, bound, where=np.isfinite(found).tolist(), color="#EEEEEE", label="95 % of white noise")
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.plot(lag, found, color="#555555", marker="o", markersize=3.5, linewidth=0.8, label="residuals of the fit days")
    if rho is not None:
        axis.plot(lag, rho**lag, color=BLUE, linestyle="--", label=f"noise model: AR(1), \N{GREEK SMALL LETTER RHO} = {rho:.2f}")
    axis.set(title="Autocorrelation", xlabel="days apart", ylim=(-0.6, 1.05))
