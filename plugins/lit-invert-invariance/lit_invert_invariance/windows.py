"""Samples: the windows of a site's record, and what became of them under one transform.

A record is cut into consecutive windows after the warm-up. A *transform* changes something that should not matter, such as a unit;
a :class:`Trial` holds by how much each window's prediction or estimate moved, beside the tolerance. A window is *retained* under
all transforms at once or not at all; one that could not be measured under a transform is not held against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .validator import RETENTION_LOW

#: Share of the days that are finite at the reference which must be so under a transform; else it broke what it should not touch.
FINITE_SHARE = 0.5


@dataclass(frozen=True)
class Trial:
    """One transform, tried on every sample."""

    transform: str
    what: Literal["prediction", "estimate"]
    change: Tensor
    """Change of each sample, (W,); NaN where it was not measured, infinite where nothing finite is left."""
    tolerance: float

    @property
    def failed(self) -> Tensor:
        """Whether each sample moved by more than the tolerance, (W,)."""
        return self.change > self.tolerance

    @property
    def samples(self) -> int:
        """Number of samples that were measured."""
        return int((~self.change.isnan()).sum())

    @property
    def retained(self) -> float | None:
        """Share of the measured samples that stayed [-]; None without any."""
        return 1.0 - float(self.failed.sum()) / self.samples if self.samples else None

    @property
    def worst(self) -> float | None:
        """Largest change of a sample; None without any."""
        return float(self.change[~self.change.isnan()].max()) if self.samples else None

    def row(self) -> dict[str, Any]:
        """Return the trial as a row of a table, in plain values."""
        worst = self.worst
        return {
            "transform": self.transform,
            "what": self.what,
            "samples": self.samples,
            "retained": self.retained,
            "worst change": "not finite" if worst == float("inf") else worst,
            "tolerance": self.tolerance,
        }


def count_retained(trials: Sequence[Trial]) -> tuple[int, int]:
    """Return how many samples were measured under any transform, and how many of them failed none.

    Example:
        >>> count_retained([Trial("K as degC", "prediction", torch.tensor([0.0, 0.5, torch.nan]), 0.1)])
        (2, 1)
    """
    measured = torch.stack([~trial.change.isnan() for trial in trials]).any(0)
    failed = torch.stack([trial.failed for trial in trials]).any(0)
    return int(measured.sum()), int((measured & ~failed).sum())


def broken_transforms(trials: Sequence[Trial]) -> set[str]:
    """Return the names of the transforms that too few samples bear."""
    return {trial.transform for trial in trials if trial.retained is not None and trial.retained < RETENTION_LOW}


def cut_windows(days: Tensor, length: int) -> list[slice]:
    """Cut a record into consecutive windows; a last one of less than half the length is dropped.

    Args:
        days: True on days that count, (T,); windows lie between the first and the last of them.
        length: Days of a window [d].

    Example:
        >>> cut_windows(torch.tensor([False, True, True, True, True, True]), 3)
        [slice(1, 4, None), slice(4, 6, None)]
        >>> cut_windows(torch.ones(7, dtype=torch.bool), 3)
        [slice(0, 3, None), slice(3, 6, None)]
    """
    counted = days.nonzero().flatten().tolist()
    if not counted:
        return []
    end = counted[-1] + 1
    starts = range(counted[0], end, length)
    return [slice(start, min(start + length, end)) for start in starts if 2 * (min(start + length, end) - start) >= length]


def mask_windows(days: Tensor, length: int) -> Tensor:
    """Cut the record of each member into windows, as :func:`cut_windows` does.

    Args:
        days: True on days that count, (B, T).
        length: Days of a window [d].

    Returns:
        True where a day that counts is in a window, (B, T, W); members with fewer windows have none at the end.

    Example:
        >>> mask_windows(torch.tensor([[False, True, True, True, True, True], [True, True, True, False, False, False]]), 3).int().mT
        tensor([[[0, 1, 1, 1, 0, 0],
                 [0, 0, 0, 0, 1, 1]],
        <BLANKLINE>
                [[1, 1, 1, 0, 0, 0],
                 [0, 0, 0, 0, 0, 0]]], dtype=torch.int32)
    """
    windows = [cut_windows(member, length) for member in days]
    mask = days.new_zeros(*days.shape, max(len(own) for own in windows))
    for member, own in enumerate(windows):
        for place, window in enumerate(own):
            mask[member, window, place] = days[member, window]
    return mask


def window_changes(reference: Tensor, other: Tensor, spread: Tensor, windows: Sequence[slice]) -> Tensor:
    r"""Return by how much each window changed, in units of the record's spread.

    .. math:: \max_{b, v} \frac{1}{\sigma_{bv}} \sqrt{\frac{1}{|w|} \sum_{t \in w} (y'_{btv} - y_{btv})^2}

    over the days w of a window that are finite in both.

    Args:
        reference: Values before, (B, T, V) [gC m-2 d-1].
        other: Values after, likewise.
        spread: What a change is compared with, (B, V) [gC m-2 d-1].
        windows: Days of each of W windows.

    Returns:
        The changes, (W,) [-]; NaN where the reference has no finite day, infinite where the other has less than half of them.
    """
    squares = (other.double() - reference.double()).square()
    known = reference.isfinite()
    both = squares.isfinite() & known
    changes = []
    for days in windows:
        before, count = known[:, days].sum(1), both[:, days].sum(1)
        mean = torch.where(both[:, days], squares[:, days], 0.0).sum(1) / count
        change = torch.where(count < FINITE_SHARE * before, torch.inf, mean.sqrt() / spread)
        measured = change[before > 0]
        changes.append(measured.max() if measured.numel() else change.new_tensor(torch.nan))
    return torch.stack(changes) if changes else squares.new_empty(0)
