"""Has the weather that drives a surrogate moved since its validation?

Each driver is looked at in the scale in which the surrogate takes it, so that 1 is a standard deviation of its training. New days
are placed in their season of the baseline (:mod:`~lit_invert_invariance.seasons`); the ranks there of new and old days are compared
by PSI and KS (:mod:`~lit_invert_invariance.drift`), the mean anomaly by its standard error. A driver has drifted where one of the
three says more than chance does *and* the anomalies are further apart than a fifth of the training's spread: carbon dioxide leaves
its past distribution every year, which no test overlooks, and few surrogates notice. Apart from that, days outside the range of the
training are counted, since nobody knows what a surrogate does there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, wasserstein_distance

from lit_invert import SurrogateSpec, Variable

from .baseline import Baseline
from .drift import CHANCE, PSI_THRESHOLD, independent_days, ks, persistence_of, psi, psi_by_chance
from .seasons import day_of_year, in_season, is_near

Series = NDArray[np.float64]

#: Least distance of the anomalies that matters, in standard deviations of the training [-].
LEAST_DISTANCE = 0.2
#: Largest share of days outside the range of the training [-].
LARGEST_OUTSIDE = 0.01


@dataclass(frozen=True)
class DriverDrift:
    """What became of one driver; NaN where the baseline knows no day of the season, or no logarithm of it is finite."""

    driver: str
    psi: float
    """Population stability index of the ranks in the season [-]."""
    psi_limit: float
    """0.2, or what chance gives in so few independent days [-]."""
    ks: float
    """Largest distance of the distribution functions of these ranks [-]."""
    ks_chance: float
    """Chance of such a distance if nothing has moved [-]."""
    shift: float
    """Mean anomaly against the season, in standard deviations of the training [-]."""
    shift_limit: float
    """What chance gives [-]."""
    distance: float
    """Mean distance of old and new anomalies, likewise (Wasserstein) [-]."""
    from_training: float
    """Mean of the new days less that of the training, likewise [-]."""
    outside: float
    """Share of days outside the range of the training [-]."""

    @property
    def alerts(self) -> list[str]:
        """What is wrong, a sentence each."""
        found = []
        is_moved = self.psi > self.psi_limit or self.ks_chance < CHANCE or abs(self.shift) > self.shift_limit
        if is_moved and self.distance > LEAST_DISTANCE:
            found.append(
                f"{self.driver} has drifted from its season in the baseline: PSI {self.psi:.3f} (limit {self.psi_limit:.3f}), "
                f"KS {self.ks:.3f} (chance {self.ks_chance:.2g}), mean shift {self.shift:+.3f} sd of the training "
                f"(limit {self.shift_limit:.3f}), and its anomalies are {self.distance:.3f} sd apart (limit {LEAST_DISTANCE})."
            )
        if self.outside > LARGEST_OUTSIDE:
            days = f"{self.outside:.1%} of the days (limit {LARGEST_OUTSIDE:.0%})"
            found.append(f"{self.driver} is outside the range of the training on {days}.")
        return found


def weather_drift(spec: SurrogateSpec, forcing: Series, dates: NDArray[np.datetime64], baseline: Baseline) -> list[DriverDrift]:
    """Compare new weather with that of the validation.

    Args:
        spec: Names, scaling and trained range of the drivers.
        forcing: New drivers in physical units, an (n, F)-dim array.
        dates: Their days, (n,).
        baseline: The weather of the validation.
    """
    new, old = (to_scaled(values, spec.drivers) for values in (forcing, baseline.forcing))
    days = day_of_year(dates)
    seen = np.array([is_near(days, day).any() for day in day_of_year(baseline.dates)])
    placed = in_season(new, dates, old, baseline.dates)
    base = in_season(old[seen], baseline.dates[seen], old, baseline.dates)
    return [
        _compare(driver, forcing[:, i], new[:, i], *(part[:, i] for part in (*base, *placed)))
        for i, driver in enumerate(spec.drivers)
    ]


def to_scaled(values: Series, drivers: Sequence[Variable]) -> Series:
    """Return drivers (n, F) in standard deviations from the mean of the training, of the logarithm where the spec takes that."""
    with np.errstate(divide="ignore"):  # the logarithm of zero is left out later
        columns = [np.log(values[:, i]) if driver.log else values[:, i] for i, driver in enumerate(drivers)]
    return np.stack([(column - d.mean) / d.std for column, d in zip(columns, drivers, strict=True)], axis=1)


def _compare(
    driver: Variable, physical: Series, scaled: Series, old_ranks: Series, old: Series, ranks: Series, anomalies: Series
) -> DriverDrift:
    """Compare one driver's ranks and anomalies in the season, old and new."""
    low, high = (-math.inf if driver.minimum is None else driver.minimum), (math.inf if driver.maximum is None else driver.maximum)
    outside, away = float(np.mean((physical < low) | (physical > high))), float(scaled.mean())
    known, was_known = np.isfinite(anomalies), np.isfinite(old)
    if not known.any() or not was_known.any():
        unknown = dict.fromkeys(("psi", "psi_limit", "ks", "ks_chance", "shift", "shift_limit", "distance"), math.nan)
        return DriverDrift(driver.name, from_training=away, outside=outside, **unknown)
    old_ranks, old, ranks, anomalies = old_ranks[was_known], old[was_known], ranks[known], anomalies[known]
    persistence = max(persistence_of(values) for values in (old_ranks, old, ranks, anomalies))
    n, m = (independent_days(len(sample), persistence) for sample in (old, anomalies))
    distance, chance = ks(old_ranks, ranks, persistence)
    return DriverDrift(
        driver.name,
        psi=psi(old_ranks, ranks),
        psi_limit=max(PSI_THRESHOLD, psi_by_chance(n, m)),
        ks=distance,
        ks_chance=chance,
        shift=float(anomalies.mean() - old.mean()),
        shift_limit=float(norm.isf(CHANCE / 2) * old.std() * math.sqrt(1 / n + 1 / m)),
        distance=float(wasserstein_distance(old, anomalies)),
        from_training=away,
        outside=outside,
    )
