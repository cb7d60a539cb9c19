"""Ranks: order without size.

Two series agree in rank where one is high on the days on which the other is, whatever scale each has; equal values share the mean
of the ranks that they cover. Deciles of what is predicted average out the noise of single days before the ranks are compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lit_invert.metrics import pearson_r

_DECILES = 10

Series = NDArray[np.float64]


def ranks(values: Series | list[float]) -> Series:
    """Return the rank of each of n values from 1, (n,); equal values have their mean rank.

    Example:
        >>> ranks([3.0, 1.0, 3.0, 2.0]).tolist()
        [3.5, 1.0, 3.5, 2.0]
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])


def spearman(first: Series | list[float], second: Series | list[float]) -> float:
    """Return the correlation of the ranks of both, (n,) each; NaN when either does not vary.

    Example:
        >>> spearman([1.0, 2.0, 3.0], [1.0, 8.0, 27.0])
        1.0
    """
    return pearson_r(ranks(first), ranks(second))


def decile_rank(predicted: Series, observed: Series) -> tuple[float, list[dict[str, float]]]:
    """Sort days into deciles of what is predicted, and correlate their numbers with the ranks of what was observed in them.

    Args:
        predicted: An (n,)-dim array; equal values come into the same decile.
        observed: An array of the same shape.

    Returns:
        The correlation, NaN where either does not vary; and for each decile that has a day its number from 1 to 10, mean predicted,
        mean observed and number of days.

    Example:
        >>> rho, rows = decile_rank(np.arange(20.0), np.arange(20.0))
        >>> rho, [row["observed"] for row in rows][:3]
        (1.0, [0.5, 2.5, 4.5])
    """
    number = np.ceil(_DECILES * (ranks(predicted) - 0.5) / len(predicted)).astype(int)
    rows = [
        {
            "decile": decile,
            "predicted": predicted[number == decile].mean().item(),
            "observed": observed[number == decile].mean().item(),
            "days": int((number == decile).sum()),
        }
        for decile in range(1, _DECILES + 1)
        if (number == decile).any()
    ]
    return spearman([row["decile"] for row in rows], [row["observed"] for row in rows]), rows
