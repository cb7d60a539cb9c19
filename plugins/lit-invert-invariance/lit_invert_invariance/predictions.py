"""Whether a surrogate simulates the same fluxes in other units and in another precision.

What is compared is what a fit sees: simulated minus observed, at the prior and at points of it. A change is counted in standard
deviations of the flux over the record. Another mask leaves every simulated value where it is, so it is tried on estimates alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_invert import InversionProblem

from .points import prior_point, prior_points
from .settings import InvarianceSettings
from .simulation import in_precision, simulate_scaled
from .spread import flux_spread
from .units import rescalings_of
from .windows import Trial, window_changes

#: Name of the trial of the other precision.
PRECISION = "float32 against float64"


@torch.no_grad()
def try_predictions(problem: InversionProblem, windows: Sequence[slice], settings: InvarianceSettings) -> list[Trial]:
    """Try every transform that a prediction should not notice.

    Args:
        problem: The problem at its site.
        windows: Days of each of W samples.
        settings: Tolerance, number of points and seed.

    Returns:
        A trial for each transform: every other unit, the factors on all drivers, every other unit of a flux, the other precision.
    """
    points = torch.cat([prior_point(problem), prior_points(problem, settings.points, settings.seed)])
    simulated = simulate_scaled(problem, points)
    residuals, spread = simulated - problem.observed, flux_spread(simulated[:, problem.days[0]])

    def trial(name: str, others: Tensor) -> Trial:
        return Trial(name, "prediction", window_changes(residuals, others, spread, windows), settings.prediction_tolerance)

    trials = []
    for rescaling in rescalings_of(problem):
        rescaled = rescaling.apply(problem)
        trials.append(trial(rescaling.name, simulate_scaled(rescaled, points) - rescaled.observed))
    other = torch.float32 if points.dtype == torch.float64 else torch.float64
    simulate = in_precision(problem, other)
    return trials if simulate is None else [*trials, trial(PRECISION, simulate(points.to(other)) - problem.observed)]
