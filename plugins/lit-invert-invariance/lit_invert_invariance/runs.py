"""Windows that are inverted: which ones, each with a run of its own, and the days of it that an inversion sees.

A window late in a long record need not be simulated from its first day on. Its run begins whole years after the record does, in the
same season, and holds at least the first year of which a surrogate may take the climate. So the windows of a record cost the same
whatever its length. A run that would reach beyond the record is filled with its last day, which no window sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_invert import InversionProblem

#: Most windows of a record that are inverted.
MOST_WINDOWS = 12
#: Fewest days of a run: what a surrogate is told of the climate is that of the first year.
LEAST_DAYS = 366
#: Share of a window's observed days that its inversion sees.
DRAWN_SHARE = 0.8
#: Resampled masks.
MASKS = 4
_YEAR = 365


def spread_evenly(places: Sequence[int], most: int = MOST_WINDOWS) -> list[int]:
    """Return as many places as are wanted, evenly from the first to the last.

    Example:
        >>> spread_evenly([0, 1, 2, 5, 6, 8, 9], 3)
        [0, 5, 9]
    """
    if len(places) <= most:
        return list(places)
    return [places[round(number * (len(places) - 1) / (most - 1))] for number in range(most)]


def cut_runs(problem: InversionProblem, windows: Sequence[slice]) -> tuple[InversionProblem, list[slice]]:
    """Return the problem of a run for each window, and the window's days in it.

    Args:
        problem: The problem of one record.
        windows: Days of each of W windows in the record.

    Returns:
        A problem of W members with the days of a run each, and W windows; both as given where the surrogate's runs have a fixed
        length or the forcing is a dict.
    """
    spec, days = problem.surrogate.spec, problem.mask.shape[1]
    if spec.fixed_length is not None or spec.windows is not None or isinstance(problem.forcing, dict):
        return problem, list(windows)
    first, latest = int(problem.days[0].int().argmax()), max(days - LEAST_DAYS, 0)
    starts = [_YEAR * (min(window.start - first, latest) // _YEAR) for window in windows]
    within = [slice(window.start - start, window.stop - start) for window, start in zip(windows, starts, strict=True)]
    length = min(days, max(LEAST_DAYS, spec.shortest_run, *(window.stop for window in within)))
    places = (torch.tensor(starts)[:, None] + torch.arange(length)).clamp_max(days - 1)
    runs = problem.first(length).variant(
        forcing=problem.forcing[0, places], observed=problem.observed[0, places], mask=problem.mask[0, places]
    )
    runs.days = problem.days[0, places]
    if problem.sigma is not None:
        runs.sigma = problem.sigma[0, places]
    return runs, within


def draw_masks(mask: Tensor, windows: Sequence[slice], seed: int) -> list[Tensor]:
    """Draw some of the observed days of each window, again and again; of each flux as many.

    Args:
        mask: True where observed, (1 or W, T, V).
        windows: Days of each of W windows.
        seed: Of the draws.

    Returns:
        The reference's mask and resampled ones, (W, T, V) each.
    """
    generator, members = torch.Generator().manual_seed(seed), mask.expand(len(windows), -1, -1)
    return [
        torch.stack([_draw_days(own, days, generator) for own, days in zip(members, windows, strict=True)])
        for _ in range(1 + MASKS)
    ]


def _draw_days(mask: Tensor, days: slice, generator: torch.Generator) -> Tensor:
    drawn = torch.zeros_like(mask)
    for flux in range(mask.shape[-1]):
        observed = mask[days, flux].nonzero().flatten() + days.start
        order = torch.randperm(len(observed), generator=generator)[: round(DRAWN_SHARE * len(observed))]
        drawn[observed[order.to(observed.device)], flux] = True
    return drawn
