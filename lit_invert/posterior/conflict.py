r"""Prior-data conflict: the days whose observation no parameters inside the prior can explain.

The prior predictive is what records of this site would look like if the prior were all that is known: draws from the prior, cut
to its bounds, simulated under the site's weather, with noise. A day in conflict lies beyond 2.6 standard deviations of it,

.. math:: \left| \frac{o_t - \bar{y}_t}{s_t} \right| > 2.576

Some such days are no conflict: records that the prior makes have them, too, each against the others, and how many on average is
told beside the list. Where days come in spells, the forcing, the surrogate's process or the prior is wrong there, and an inversion
that fits them pays with parameters that are wrong everywhere. PEST++ IES lists its prior-data conflicts for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .twins import Twins

#: Distance from the mean, in standard deviations, beyond which one day in a hundred lies.
CONFLICT = 2.576
#: Observed days that are no further apart than this belong to one spell [d].
_GAP = 3


def find_conflicts(records: Twins, fluxes: Iterable[str], dates: NDArray[np.datetime64]) -> list[dict[str, Any]]:
    """List the spells of observed days that the prior cannot reach, the most distant first.

    Args:
        records: Draws of the prior predictive; their problem holds the real record.
        fluxes: Names of the fluxes whose noise they have.
        dates: The T days.

    Returns:
        For each spell: `flux`, `from`, `to`, `days` (those in conflict), `direction` (`above` or `below` what the prior reaches)
        and `distance_in_sd` (of its most distant day); ready for JSON.
    """
    spells = []
    for name in fluxes:
        distance = conflict_distance(records, name)
        outside = torch.where(distance.abs() > CONFLICT, distance, 0.0)
        for days in _spells(outside.numpy()):
            spells.append({"flux": name, **_describe(days, outside.numpy(), dates)})
    return sorted(spells, key=lambda spell: -abs(spell["distance_in_sd"]))


def count_conflicts(records: Twins, fluxes: Iterable[str]) -> dict[str, float]:
    """Count the days in conflict beside those that a record of the prior itself has on average.

    Args:
        records: Draws of the prior predictive; their problem holds the real record.
        fluxes: Names of the fluxes whose noise they have.

    Returns:
        `days` in conflict, `expected_days`, and `n` observed days; over all fluxes.
    """
    days, expected, n = 0, 0.0, 0
    for name in fluxes:
        days += int((conflict_distance(records, name).abs() > CONFLICT).sum())
        own = own_distances(records, name)
        expected += float((own.abs() > CONFLICT).sum(1).double().mean())
        n += own.shape[1]
    return {"days": days, "expected_days": expected, "n": n}


def own_distances(records: Twins, flux: str) -> Tensor:
    r"""Return how far each of N draws of the prior predictive lies from the mean of the others, in their sd.

    .. math:: \frac{y_i - \bar{y}_{-i}}{s_{-i}}, \qquad \bar{y} - \bar{y}_{-i} = \frac{y_i - \bar{y}}{N - 1}, \qquad
        (N - 2) s_{-i}^2 = (N - 1) s^2 - \frac{N}{N - 1} (y_i - \bar{y})^2

    Args:
        records: Draws of the prior predictive.
        flux: Name of the flux.

    Returns:
        Distances on the n days that the site observed, (N, n) [-].
    """
    place = records.problem.surrogate.spec.output_names.index(flux)
    made = records.observed[..., place].double()[:, records.problem.mask[0, :, place]]
    count, away = len(made), made - made.mean(0)
    variance = ((count - 1) * made.var(0) - count / (count - 1) * away.square()) / (count - 2)
    return away * count / (count - 1) / variance.sqrt()


def conflict_distance(records: Twins, flux: str) -> Tensor:
    """Return how far each observed day lies from the mean of the prior predictive, (T,), in its sd; zero where not observed [-].

    Args:
        records: Draws of the prior predictive; their problem holds the real record.
        flux: Name of the flux.
    """
    problem = records.problem
    place = problem.surrogate.spec.output_names.index(flux)
    predicted = records.observed[..., place].double()
    distance = (problem.observed[0, :, place].double() - predicted.mean(0)) / predicted.std(0)
    return torch.where(problem.mask[0, :, place], distance, 0.0)


def _spells(outside: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Yield the days of each spell: in conflict in one direction, with no long gap between them.

    Example:
        >>> [spell.tolist() for spell in _spells(np.array([3.0, 0, 4, -3, 0, 0, 0, 0, 0, -5]))]
        [[0, 2], [3], [9]]
    """
    days = np.flatnonzero(outside)
    apart = np.diff(days) > _GAP
    turned = np.diff(np.sign(outside[days])) != 0
    yield from (spell for spell in np.split(days, np.flatnonzero(apart | turned) + 1) if len(spell))


def _describe(days: NDArray[np.int64], outside: NDArray[np.float64], dates: NDArray[np.datetime64]) -> dict[str, Any]:
    furthest = outside[days][np.abs(outside[days]).argmax()]
    return {
        "from": str(dates[days[0]].astype("datetime64[D]")),
        "to": str(dates[days[-1]].astype("datetime64[D]")),
        "days": len(days),
        "direction": "above" if furthest > 0 else "below",
        "distance_in_sd": float(furthest),
    }
