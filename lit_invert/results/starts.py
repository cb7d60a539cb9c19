r"""What many starts say: how each ended, which ended at one place, and how many it takes.

Starts that reached the best loss may still disagree about the parameters: then the data do not determine them. Starts whose loss is
within one per cent of the best are joined where the root mean square of their distance, in standard deviations of the prior, is
less than a tenth, and so are those that a chain of such neighbours links; a cluster is one answer.

How many starts it takes is told by the best of k: with the scores of n starts sorted, the best of a random k of them is worse than
the i-th with probability

.. math:: P(r > i) = \binom{n - i}{k} \Big/ \binom{n}{k}

so quantiles of the best of k are exact, and no start is run twice for them. A failed start counts as the worst.

Source:
    Ren, Padilla and Malof (2020), Benchmarking deep inverse models over time, and the Neural-Adjoint method, NeurIPS, for the error
    as a function of the number of tries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: Largest difference of the loss from the best of a start that belongs to a cluster, as a share of it.
NEAR_LOSS = 0.01
#: Largest distance of neighbours in a cluster: root mean square over the parameters [prior sd].
NEAR_PLACE = 0.1
#: Quantiles of the best of k, and their keys.
_QUANTILES = {"select": 0.5, "low": 0.25, "high": 0.75}


@dataclass(frozen=True)
class StartRecord:
    """What became of one start."""

    origin: str
    """`prior`, `draw`, `lhs` or `user`."""
    status: str
    """`finished`, `dropped` by halving, or `failed`."""
    round: int
    """Round of halving that it took part in last; 0 without one."""
    loss_start: float
    """Loss of the whole problem where it began."""
    loss: float
    """Loss of the whole problem where it was left."""
    select_rmse: float
    """RMSE of the target on the `select` days there [gC m-2 d-1]; NaN without such days."""
    iterations: int
    seconds: float
    """Its share of the wall time [s]."""
    message: str
    physical: NDArray[np.float64]
    """Where it was left, (P,), in the table's units."""
    units: NDArray[np.float64]
    """The free parameters there, (K,), in standard deviations from the prior."""


def start_table(records: Sequence[StartRecord], names: Sequence[str]) -> pd.DataFrame:
    """Lay out the starts, one row each.

    Args:
        records: The starts; the first is the prior.
        names: Names of the parameters.

    Returns:
        Columns `start`, those of a :class:`StartRecord` with `cluster` (0 is the best's, -1 none), and a column a parameter.
    """
    plain = [{key: value for key, value in asdict(r).items() if key not in ("physical", "units")} for r in records]
    table = pd.DataFrame(plain)
    table.insert(0, "start", np.arange(len(records)))
    clusters = find_clusters(np.array([r.loss for r in records]), np.stack([r.units for r in records]))
    table.insert(list(table.columns).index("message"), "cluster", clusters)
    return table.join(pd.DataFrame(np.stack([r.physical for r in records]), columns=list(names)))


def find_clusters(loss: NDArray[np.float64], units: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number the clusters of starts from the one with the best loss on.

    Args:
        loss: Loss of each start, (N,); not finite where it failed.
        units: Where each was left, (N, K) [prior sd].

    Returns:
        The cluster of each, (N,); -1 for a start whose loss is not near the best.

    Example:
        >>> find_clusters(np.array([1.0, 2.0, 1.001, 1.002]), np.array([[0.0], [0.0], [3.0], [0.05]])).tolist()
        [0, -1, 1, 0]
    """
    best = np.min(loss, where=np.isfinite(loss), initial=np.inf)
    near = np.flatnonzero(np.isfinite(loss) & (loss <= best + NEAR_LOSS * abs(best)))
    apart = np.sqrt(np.mean(np.square(units[near, None] - units[None, near]), axis=-1))
    label = np.arange(len(near))
    linked = apart < NEAR_PLACE
    np.fill_diagonal(linked, True)
    while True:
        nearest = np.min(np.where(linked, label, len(near)), axis=1, initial=len(near))
        if np.array_equal(nearest, label):
            break
        label = nearest
    order = {old: new for new, old in enumerate(dict.fromkeys(label[np.argsort(loss[near], kind="stable")].tolist()))}
    clusters = np.full(len(loss), -1)
    clusters[near] = [order[old] for old in label.tolist()]
    return clusters


def summarise_starts(starts: pd.DataFrame) -> dict[str, Any]:
    """Return what metrics.json says of the starts.

    Args:
        starts: As `start_table` returns it.

    Returns:
        `count`, `failed`, `ranked_by` (`select_rmse`, or `loss` without `select` days), `clusters`, `share_in_best`, and `r_t`: for
        each k the median best of k starts as `select`, its quartiles `low` and `high`, and the `seconds` that k of them take.
    """
    ranked_by = "select_rmse" if starts["select_rmse"].notna().any() else "loss"
    failed = starts["status"] == "failed"
    score = starts[ranked_by].where(~failed).to_numpy(dtype=np.float64)
    each = float(starts["seconds"].mean())
    return {
        "count": len(starts),
        "failed": int(failed.sum()),
        "ranked_by": ranked_by,
        "clusters": int(starts["cluster"].max()) + 1,
        "share_in_best": float((starts["cluster"] == 0).mean()),
        "r_t": [{"starts": k, **best_of(score, k), "seconds": k * each} for k in range(1, len(starts) + 1)],
    }


def best_of(scores: NDArray[np.float64], k: int) -> dict[str, float]:
    """Return median and quartiles of the best of a random k of n scores.

    Args:
        scores: Scores, (n,), lower is better; not finite where a start failed.
        k: Size of the subsets, from 1 to n.

    Returns:
        The median as `select`, the quartiles as `low` and `high`; NaN where even that subset has failed.

    Example:
        >>> best_of(np.array([3.0, 1.0, 2.0]), 2)
        {'select': 1.0, 'low': 1.0, 'high': 2.0}
    """
    count = len(scores)
    ordered = np.sort(np.where(np.isfinite(scores), scores, np.inf))
    reached = np.array([1 - math.comb(count - i, k) / math.comb(count, k) for i in range(1, count + 1)])
    found = {key: float(ordered[np.argmax(reached >= share - 1e-12)]) for key, share in _QUANTILES.items()}
    return {key: value if math.isfinite(value) else math.nan for key, value in found.items()}
