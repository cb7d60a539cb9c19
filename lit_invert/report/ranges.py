"""Where parameters lie between their bounds, 0 to 1, so that 36 of them fit one figure whatever their units."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


class Ranges:
    """The ranges of a table of parameters: the bounds, or four standard deviations around the prior where there is none.

    Args:
        parameters: Content of parameters.csv.
    """

    def __init__(self, parameters: pd.DataFrame) -> None:
        prior, sd, optimum = (parameters[column].to_numpy(dtype=np.float64) for column in ("prior", "prior_sd", "optimum"))
        low, high = parameters["min"].to_numpy(dtype=np.float64), parameters["max"].to_numpy(dtype=np.float64)
        self.low = np.where(np.isfinite(low), low, np.minimum(prior - 4 * sd, optimum))
        self.high = np.where(np.isfinite(high), high, np.maximum(prior + 4 * sd, optimum))
        is_log = (parameters["scale"] == "log").to_numpy()
        self._in_log = is_log & (self.low > 0)
        self.prior = self.place(prior)
        self.beside_prior = tuple(self.place(_beside(prior, sd, is_log, sign)) for sign in (-1, 1))
        #: Standard deviation of the prior, in shares of the range.
        self.prior_sd = (self.beside_prior[1] - self.beside_prior[0]) / 2

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where values lie, in each parameter's own scale.

        Args:
            values: Physical values, (..., P).

        Returns:
            An array of the same shape: 0 at the lower end, 1 at the upper one.
        """
        low, high = self._line(self.low), self._line(self.high)
        width = high - low
        return (self._line(np.asarray(values, dtype=np.float64)) - low) / np.where(width > 0, width, 1.0)

    def _line(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        positive = np.where(self._in_log, np.maximum(values, np.abs(self.low) * 1e-9), 1.0)
        return np.where(self._in_log, np.log(positive), values)


def _beside(prior: NDArray[np.float64], sd: NDArray[np.float64], is_log: NDArray[np.bool_], sign: int) -> NDArray[np.float64]:
    """Return the prior plus or minus its standard deviation, which is one of the logarithm where steps are ratios."""
    ratio = np.divide(sd, prior, out=np.zeros_like(sd), where=is_log)
    return np.where(is_log, prior * np.exp(sign * ratio), prior + sign * sd)


def share_agreeing(starts: pd.DataFrame, parameters: pd.DataFrame) -> NDArray[np.float64]:
    """Return the share of finished starts that ended near the best one.

    Near is within a quarter of the prior's standard deviation.

    Args:
        starts: Content of starts.csv.
        parameters: Content of parameters.csv.

    Returns:
        A share by parameter, (P,); NaN without a finished start.
    """
    done = starts[(starts["status"] == "finished") & starts["loss"].notna()].sort_values("loss", kind="stable")
    if not len(done):
        return np.full(len(parameters), np.nan)
    ranges = Ranges(parameters)
    ends = ranges.place(done[list(parameters["name"])].to_numpy())
    near: NDArray[np.float64] = (np.abs(ends - ends[0]) <= 0.25 * ranges.prior_sd).mean(0)
    return near
