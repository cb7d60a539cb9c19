"""Whether a surrogate simulates the same fluxes in other units and in another precision.

What is compared is what a fit sees: simulated minus observed, at the prior and at points of it. A change is counted in standard
deviations of the flux over the record. Another mask leaves every simulated value where it is, so it is tried on estimates alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_invert import InversionProblem

from .points import prior_point, prior_points, simulate_scaled
from .settings import InvarianceSettings
from .units import rescalings_of
from .windows import Trial, spread_of, window_changes

#: Name of the trial of the other precision.
PRECISION = "float32 against float64"


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
    residuals, spread = simulated - problem.observed, spread_of(simulated, problem.days[0])

    def trial(name: str, others: Tensor) -> Trial:
        return Trial(name, "prediction", window_changes(residuals, others, spread, windows), settings.prediction_tolerance)

    trials = []
    for rescaling in rescalings_of(problem):
        rescaled = rescaling.apply(problem)
        trials.append(trial(rescaling.name, simulate_scaled(rescaled, points) - rescaled.observed))
    precise = simulate_in_other_precision(problem, points)
    return trials if precise is None else [*trials, trial(PRECISION, precise - problem.observed)]


@torch.no_grad()
def simulate_in_other_precision(problem: InversionProblem, points: Tensor) -> Tensor | None:
    """Simulate with a copy of the surrogate in float64, or in float32 where it is in float64 already.

    Args:
        problem: The problem.
        points: Scaled parameters, (B, P) [-].

    Returns:
        Fluxes, (B, T, V) [gC m-2 d-1]; None where the network was recorded for one precision.
    """
    other = torch.float32 if points.dtype == torch.float64 else torch.float64
    forcing = problem.forcing
    try:
        surrogate = copy.deepcopy(problem.surrogate).to(other)
        cast = {name: part.to(other) for name, part in forcing.items()} if isinstance(forcing, dict) else forcing.to(other)
        simulated: Tensor = surrogate(points.to(other), surrogate.prepare(cast))
    except (RuntimeError, TypeError, NotImplementedError):
        return None
    return simulated
