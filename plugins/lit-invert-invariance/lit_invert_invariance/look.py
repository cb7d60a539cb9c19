"""One look at new days: what of the validation is still so.

Measured are what costs no inversion: the drift of every driver, retention of predictions, the rank correlation where the days were
observed, and the share of values that are no numbers.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch

from lit_invert import InversionProblem, RunInfo, Site

from .baseline import Baseline
from .ranking import Series, decile_rank
from .ranks import FEWEST_DAYS, observed_flux
from .retention import prediction_retention
from .settings import settings_of
from .validator import RETENTION_LOW, InvarianceValidator, judge_nan, judge_retention, judge_spearman
from .weather_drift import DriverDrift, weather_drift

#: What a history keeps of each driver's drift: all that an alert is judged by.
_KEPT = ("psi", "psi_limit", "ks", "ks_chance", "shift", "shift_limit", "distance", "outside")


@dataclass(frozen=True)
class Look:
    """What one look at new data found; NaN where a number could not be measured."""

    drifts: list[DriverDrift]
    retention: float
    """Share of windows whose predictions stay under other units and another precision [-]."""
    spearman: float
    """Rank correlation of predicted decile and observed mean [-]."""
    nan_ratio: float
    """Share of simulated values that are not finite [-]."""

    @property
    def alerts(self) -> list[str]:
        """What calls for somebody, a sentence each."""
        found = [alert for drift in self.drifts for alert in drift.alerts]
        if not math.isnan(self.retention) and judge_retention(self.retention) == "fail":
            found.append(f"retention of predictions is {self.retention:.3f}, below {RETENTION_LOW}.")
        if judge_nan(self.nan_ratio) == "fail":
            limit = InvarianceValidator.NAN_RATIO_THRESHOLD
            found.append(f"{self.nan_ratio:.1%} of the simulated values are not finite, expected less than {limit:.0%}.")
        return found

    @property
    def advice(self) -> list[str]:
        """What somebody should know, a sentence each."""
        if math.isnan(self.spearman) or judge_spearman(self.spearman) == "pass":
            return []
        limit = InvarianceValidator.SPEARMAN_THRESHOLD
        return [f"the predicted deciles rank as the observed with rho = {self.spearman:.3f}, not above {limit}; recalibrate."]


def look(problem: InversionProblem, site: Site, theta: torch.Tensor, baseline: Baseline, run: RunInfo) -> Look:
    """Measure everything.

    Args:
        problem: The new days.
        site: The same as a site.
        theta: Parameters to simulate with, (1, P).
        baseline: The weather of the validation.
        run: Its settings.
    """
    with torch.no_grad():
        simulated = problem.simulate(theta)[0].double().numpy()
    retention, _ = prediction_retention(problem, site, settings_of(run))
    return Look(
        weather_drift(problem.surrogate.spec, site.forcing, site.dates, baseline),
        math.nan if retention is None else retention,
        _rank(simulated, problem),
        float(np.mean(~np.isfinite(simulated[problem.days[0].numpy()]))),
    )


def scores(found: Look) -> dict[str, str | int | float]:
    """Return what the history keeps of a look."""
    drifts = {f"{key}/{drift.driver}": asdict(drift)[key] for key in _KEPT for drift in found.drifts}
    own = {"retention": found.retention, "spearman": found.spearman, "nan_ratio": found.nan_ratio}
    return {**own, "alerts": len(found.alerts), **drifts}


def _rank(simulated: Series, problem: InversionProblem) -> float:
    """Return the rank correlation of the flux with most observed days; NaN where these are too few."""
    flux = observed_flux(problem)
    days = problem.mask[0, :, flux].numpy() & np.isfinite(simulated[:, flux])
    if days.sum() < FEWEST_DAYS:
        return math.nan
    rho, _ = decile_rank(simulated[days, flux], problem.observed[0, :, flux].double().numpy()[days])
    return rho
