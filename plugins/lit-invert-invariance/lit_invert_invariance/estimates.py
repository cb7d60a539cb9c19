"""Whether the estimate of each window stays where it was when nothing that matters changed.

Each window of a record is inverted by itself, all of them as members of one batch. An estimate is the best of several starts, the
prior and draws from it. Against it stand the same inversion with drivers and observations in other units; the best of as many other
starts; and inversions that see other days. The days of the reference are a random share of those that were observed in the window,
and another draw of as many is a *resampled mask*: same size, same season, other days. What a mask changes is the RMS over all pairs
of several draws, since any single one may be a matter of luck.

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

from .directions import derivatives_hold, find_directions, in_prior_units
from .fitting import STARTS, draw_starts, find_misfit, fit_best, fit_members
from .settings import InvarianceSettings
from .units import Rescaling
from .windows import Trial

#: Smallest share of a window's days that must be observed for it to be inverted.
OBSERVED_SHARE = 0.5
#: Most windows of a record that are inverted, its first ones: about a year of them.
MOST_WINDOWS = 12
#: Fewest days that a record is cut to: what a surrogate is told of the climate is that of the first year.
LEAST_DAYS = 366
#: Share of a window's observed days that its inversion sees.
DRAWN_SHARE = 0.8
#: Resampled masks.
MASKS = 4


def try_estimates(
    problem: InversionProblem, windows: Sequence[slice], rescalings: Sequence[Rescaling], settings: InvarianceSettings
) -> list[Trial]:
    """Invert the windows again and again, and compare.

    Args:
        problem: The problem at its site.
        windows: Days of each of W samples.
        rescalings: Changes of unit to try.
        settings: Tolerances and seed.

    Returns:
        A trial for each change of unit, for other starts and for other masks; none where no window can be inverted: without a
        misfit, without days, or where simulated values or derivatives of them cannot be trusted.
    """
    misfit = find_misfit(problem)
    chosen = [] if misfit is None or not is_invertible(problem, settings.seed) else choose_windows(problem, misfit, windows)
    if misfit is None or not chosen:
        return []
    problem = cut_record(problem, windows[chosen[-1]].stop)
    mask, *resampled = draw_masks(problem.mask, [windows[i] for i in chosen], settings.seed)
    starts = draw_starts(problem, settings.seed)
    fits = _WindowFits(problem, misfit, mask, starts[:STARTS])

    def trial(name: str, tolerance: float, change: Tensor) -> Trial:
        every = change.new_full((len(windows),), torch.nan)
        every[chosen] = change
        return Trial(name, "estimate", every, tolerance)

    others = [fits.again(problem, other) for other in resampled]
    return [
        *(trial(r.name, settings.estimate_tolerance, fits.change(fits.again(r.apply(problem), mask))) for r in rescalings),
        trial("starts", settings.estimate_tolerance, fits.change(fit_best(problem.variant(mask=mask), starts[STARTS:])[0])),
        trial("resampled mask", settings.mask_tolerance, fits.change_within([fits.estimate, *others])),
    ]


class _WindowFits:
    """Estimates of the windows, and the directions that their data determine."""

    def __init__(self, problem: InversionProblem, misfit: Misfit, mask: Tensor, starts: Tensor) -> None:
        self.problem = problem
        masked = problem.variant(mask=mask)
        self.estimate, best = fit_best(masked, starts)
        self.start = starts[best]
        self.directions = find_directions(masked, misfit, self.estimate)

    def again(self, problem: InversionProblem, mask: Tensor) -> Tensor:
        """Estimate another problem's windows from where the reference started."""
        return fit_members(problem.variant(mask=mask), self.start)[0]

    def change(self, estimate: Tensor) -> Tensor:
        """Return the distance of an estimate from the reference, (W,) [posterior standard deviations]."""
        return self.change_within([self.estimate, estimate])

    def change_within(self, estimates: Sequence[Tensor]) -> Tensor:
        """Return the RMS distance of all pairs of estimates, likewise."""
        pairs = combinations([in_prior_units(self.problem, estimate) for estimate in estimates], 2)
        return torch.stack([self.directions.distance(*pair) for pair in pairs]).square().mean(0).sqrt()


@torch.no_grad()
def is_invertible(problem: InversionProblem, seed: int) -> bool:
    """Say whether every value at the prior is finite and changes with the parameters as the solver is told.

    Where that is not so, what an inversion returns is no estimate; other checks say what is at fault.
    """
    prior = problem.space.to_theta(problem.space.priors)
    return bool(problem.simulate(prior).isfinite().all()) and derivatives_hold(problem, prior, seed)


def choose_windows(problem: InversionProblem, misfit: Misfit, windows: Sequence[slice]) -> list[int]:
    """Return which windows are inverted: the first ones with enough observed days of the target."""
    observed = problem.mask[0, :, problem.surrogate.spec.output_names.index(misfit.target)]
    return [i for i, days in enumerate(windows) if observed[days].double().mean() >= OBSERVED_SHARE][:MOST_WINDOWS]


def cut_record(problem: InversionProblem, days: int) -> InversionProblem:
    """Return the problem without the days after those that are wanted, where the surrogate can be run for fewer."""
    spec, days = problem.surrogate.spec, max(days, LEAST_DAYS)
    is_tied = spec.fixed_length is not None or spec.windows is not None or isinstance(problem.forcing, dict)
    return problem if is_tied or days >= problem.mask.shape[1] else problem.first(days)


def draw_masks(mask: Tensor, windows: Sequence[slice], seed: int) -> list[Tensor]:
    """Draw some of the observed days of each window, again and again; of each flux as many.

    Args:
        mask: True where observed, (1, T, V).
        windows: Days of each of W windows.
        seed: Of the draws.

    Returns:
        The reference's mask and resampled ones, (W, T, V) each.
    """
    generator = torch.Generator().manual_seed(seed)
    return [torch.cat([_draw_days(mask, days, generator) for days in windows]) for _ in range(1 + MASKS)]


def _draw_days(mask: Tensor, days: slice, generator: torch.Generator) -> Tensor:
    drawn = torch.zeros_like(mask)
    for flux in range(mask.shape[-1]):
        observed = mask[0, days, flux].nonzero().flatten() + days.start
        order = torch.randperm(len(observed), generator=generator)[: round(DRAWN_SHARE * len(observed))]
        drawn[0, observed[order.to(observed.device)], flux] = True
    return drawn
