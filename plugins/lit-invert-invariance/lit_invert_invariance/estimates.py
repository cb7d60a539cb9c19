"""Whether the estimate of each window stays where it was when nothing that matters changed.

Some windows of a record, spread evenly over it, are inverted by themselves, all of them as members of one batch. An estimate is the
best of several starts, the prior and draws from it. Against it stand the same inversion with drivers and observations in other
units; the best of as many other starts, where both sides are given more of them in windows that disagree; and inversions that see
other days. The days of the reference are a random share of those that were observed in the window, and another draw of as many is a
*resampled mask*: same size, same season, other days; it begins where the reference did, and at each of its starts in windows that
disagree. What a mask changes is the RMS over all pairs of several draws, since any single one may be a matter of luck.

A month of one flux determines few of many parameters; the others are free to differ and mean nothing. So estimates are compared
along the directions that the data determine, in standard deviations of the posterior: :mod:`lit_invert_invariance.directions`.
A window of which less than half was observed is not inverted: a handful of days cannot tell how well it determines anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from lit_invert import InversionProblem
from lit_invert.losses import Misfit
from lit_invert.posterior.target import to_units

from .directions import derivatives_hold, find_directions
from .fitting import Best, draw_starts, find_misfit, fit_best, fit_members
from .points import prior_point
from .runs import cut_runs, draw_masks, spread_evenly
from .settings import InvarianceSettings
from .simulation import simulate_scaled
from .units import Rescaling
from .windows import Trial

#: Smallest share of a window's days that must be observed for it to be inverted.
OBSERVED_SHARE = 0.5


def try_estimates(
    problem: InversionProblem, windows: Sequence[slice], rescalings: Sequence[Rescaling], settings: InvarianceSettings
) -> tuple[list[Trial], str]:
    """Invert windows again and again, and compare.

    Args:
        problem: The problem at its site.
        windows: Days of each of W samples.
        rescalings: Changes of unit to try.
        settings: Tolerances and seed.

    Returns:
        A trial for each change of unit, for other starts and for other masks, and an empty text; no trial where no window can be
        inverted, and why.
    """
    misfit = find_misfit(problem)
    if misfit is None:
        return [], "no term is a misfit"
    invertible, reason = find_invertible(problem, misfit, windows, settings.seed)
    if reason:
        return [], reason
    chosen = spread_evenly(invertible)
    runs, within = cut_runs(problem, [windows[i] for i in chosen])
    mask, *resampled = draw_masks(runs.mask, within, settings.seed)
    fits = _WindowFits(runs, misfit, mask, settings)

    def trial(name: str, tolerance: float, change: Tensor) -> Trial:
        every = change.new_full((len(windows),), torch.nan)
        every[chosen] = change
        return Trial(name, "estimate", every, tolerance)

    return [
        *(trial(r.name, settings.estimate_tolerance, fits.change(fits.again(r.apply(runs), mask).theta)) for r in rescalings),
        trial("starts", settings.estimate_tolerance, fits.change(fits.other)),
        trial("resampled mask", settings.mask_tolerance, fits.change_of_days(resampled, settings.mask_tolerance)),
    ], ""


class _WindowFits:
    """Two estimates of the windows from starts of their own, and the directions that the data determine at the first."""

    def __init__(self, problem: InversionProblem, misfit: Misfit, mask: Tensor, settings: InvarianceSettings) -> None:
        self.problem = problem
        masked = problem.variant(mask=mask)
        *starts, more, more_of_other = draw_starts(problem, settings.seed)
        reference, other = (fit_best(masked, each) for each in starts)
        self.directions = find_directions(masked, misfit, reference.theta)
        self.estimate = reference.theta
        apart = (self.change(other.theta) > settings.estimate_tolerance).nonzero().flatten()
        if len(apart):
            reference = reference.improve(apart, fit_best(masked, more, apart))
            other = other.improve(apart, fit_best(masked, more_of_other, apart))
            self.directions = find_directions(masked, misfit, reference.theta)
        self.starts = starts[0]
        self.estimate, self.other, self.start = reference.theta, other.theta, reference.start

    def again(self, problem: InversionProblem, mask: Tensor) -> Best:
        """Estimate another problem's windows from where the reference started."""
        return Best(*fit_members(problem.variant(mask=mask), self.start), self.start)

    def change(self, estimate: Tensor) -> Tensor:
        """Return the distance of an estimate from the reference, (W,) [posterior standard deviations]."""
        return self.change_within([self.estimate, estimate])

    def change_of_days(self, masks: Sequence[Tensor], tolerance: float) -> Tensor:
        """Return the distance between estimates from other days and the reference, likewise.

        Windows that are farther apart than the tolerance are estimated again, from all the starts of the reference.
        """
        fits = [self.again(self.problem, mask) for mask in masks]
        apart = (self.change_within([self.estimate, *(fit.theta for fit in fits)]) > tolerance).nonzero().flatten()
        if len(apart):
            fits = [
                fit.improve(apart, fit_best(self.problem.variant(mask=mask), self.starts, apart))
                for fit, mask in zip(fits, masks, strict=True)
            ]
        return self.change_within([self.estimate, *(fit.theta for fit in fits)])

    def change_within(self, estimates: Sequence[Tensor]) -> Tensor:
        """Return the RMS distance of all pairs of estimates, likewise."""
        pairs = combinations([to_units(self.problem, estimate) for estimate in estimates], 2)
        return torch.stack([self.directions.distance(*pair) for pair in pairs]).square().mean(0).sqrt()


def find_invertible(problem: InversionProblem, misfit: Misfit, windows: Sequence[slice], seed: int) -> tuple[list[int], str]:
    """Return which windows can be inverted, and why none can where that is so.

    A window needs enough observed days of the target, and finite values on them at the prior. Where what is simulated does not
    change with the parameters as the solver is told, what an inversion returns is no estimate; other checks say what is at fault.
    """
    target = problem.surrogate.spec.output_names.index(misfit.target)
    observed = problem.mask[0, :, target]
    lost = observed & ~simulate_scaled(problem, prior_point(problem))[0, :, target].isfinite()
    enough = [i for i, days in enumerate(windows) if observed[days].double().mean() >= OBSERVED_SHARE]
    if not enough:
        return [], f"no window has half of its days of {misfit.target} observed"
    finite = [i for i in enough if not lost[windows[i]].any()]
    if not finite:
        return [], f"{misfit.target} at the prior is not finite on observed days of every window"
    if not derivatives_hold(problem, misfit, seed):
        return [], f"the derivatives of {misfit.target} at the prior cannot be trusted"
    return finite, ""
