r"""Data worth: what other observations would tell, or what those that there are have told.

Near the mode an observation adds what it knows to the information of the data, :math:`F' = F + \Delta F`, whatever its value will
be. So the posterior's standard deviation of each parameter with and without it,

.. math:: 1 - \sqrt{ [(F' + O + I)^{-1}]_{ii} / [(F + O + I)^{-1}]_{ii} }

with the curvature O of whatever the fit counts beside likelihood and prior, is known before anyone has measured. It is asked of
each season's days that no fit has used yet, of each season's days that were used (were they missing), of the fluxes that were not
observed, and of as many days again. Assumed: the noise of the fitted flux on any day; for another flux, noise that is as large a
share of that flux's standard deviation, and independent; bounds are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..metrics import flux_name
from .identify import practical_rank
from .noise import Noise, whiten
from .target import Mode, push_fluxes

#: Months of each season, by names that say the same in the north and in the south.
SEASONS = {
    "December to February": (12, 1, 2),
    "March to May": (3, 4, 5),
    "June to August": (6, 7, 8),
    "September to November": (9, 10, 11),
}
#: Parameters that each row of the table is about: those that gain (or lose) most.
_MOST_NAMED = 3


@torch.no_grad()
def data_worth(mode: Mode, target: str, dates: NDArray[np.datetime64]) -> list[dict[str, Any]]:
    """Return which observations would shrink which parameter most.

    Args:
        mode: The mode of one member.
        target: The flux that was fitted.
        dates: The T days.

    Returns:
        Rows of `what`, `kind` (`season to observe`, `season to lose`, `flux to observe` or `days again`), `parameter`,
        `sd_reduction_percent` (negative where the parameter becomes less certain), `rank` and `rank_gain`; three for each
        observation, those that matter most first.
    """
    outputs = mode.problem.surrogate.spec.output_names
    slopes = push_fluxes(mode)
    place, noise = outputs.index(target), mode.noise[target]
    observed = mode.problem.mask[:1, :, place]

    def knows(mask: Tensor, flux: int = place) -> Tensor:
        scale = 1.0 if flux == place else float(_spread(mode, flux) / _spread(mode, place))
        return _information(slopes[:, :, flux], mask, noise, scale)

    now = mode.information
    offers = [("days again", f"as many days of {flux_name(target)} again", now + knows(observed))]
    offers += _seasons(now, knows, observed, mode.problem.days.expand_as(observed), dates, target)
    offers += [
        ("flux to observe", f"{flux_name(name)} on the same days", now + knows(observed, i))
        for i, name in enumerate(outputs)
        if name not in mode.noise
    ]
    rows = [row for kind, what, then in offers for row in _compare(mode, kind, what, then)]
    return sorted(rows, key=lambda row: -abs(row["sd_reduction_percent"]))


def _spread(mode: Mode, flux: int) -> Tensor:
    return mode.simulated[0, :, flux][mode.problem.days[0]].std()


def _information(slopes: Tensor, mask: Tensor, noise: Noise, scale: float) -> Tensor:
    whitened = whiten(slopes, mask, noise.deviation.double() * scale, noise.rho.double())
    return whitened.transpose(1, 2) @ whitened


def _seasons(
    now: Tensor, knows: Callable[[Tensor], Tensor], observed: Tensor, days: Tensor, dates: NDArray[np.datetime64], target: str
) -> list[tuple[str, str, Tensor]]:
    """Return what would be known with every day of a season, and without any, for each season."""
    month = dates.astype("datetime64[M]").astype(int) % 12 + 1
    found, data = [], knows(observed)
    for name, months in SEASONS.items():
        season = torch.from_numpy(np.isin(month, months))[None] & days
        if (season & ~observed).any():
            found.append(
                ("season to observe", f"{flux_name(target)} on every day from {name}", now - data + knows(observed | season))
            )
        if (season & observed).any():
            found.append(("season to lose", f"no {flux_name(target)} from {name}", now - data + knows(observed & ~season)))
    return found


def _compare(mode: Mode, kind: str, what: str, then: Tensor) -> list[dict[str, Any]]:
    """Return a row for each of the parameters whose standard deviation changes most."""
    now = mode.information
    change = 100 * (1 - _deviation(mode.precision + then - now) / _deviation(mode.precision))
    ranks = int(practical_rank(now)[0]), int(practical_rank(then)[0])
    names = [mode.problem.space.table.names[i] for i in mode.free.tolist()]
    return [
        {
            "what": what,
            "kind": kind,
            "parameter": names[i],
            "sd_reduction_percent": change[i].item(),
            "rank": ranks[1],
            "rank_gain": ranks[1] - ranks[0],
        }
        for i in change.abs().argsort(descending=True)[:_MOST_NAMED].tolist()
    ]


def _deviation(precision: Tensor) -> Tensor:
    """Return the posterior's standard deviation of each parameter in prior units, (K,)."""
    covariance: Tensor = torch.linalg.inv(precision[0])
    return covariance.diagonal().sqrt()
