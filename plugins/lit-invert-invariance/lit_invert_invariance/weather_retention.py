"""Retention of predictions: the share of samples that do not notice a small unannounced change of the weather.

A sample is a window of a member's record under one set of instruments, see :mod:`lit_invert_invariance.perturbation`. It passes
where the change of every flux, as RMS over the window, is at most a stated share of the flux's spread over the record.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_invert import Evaluation

from .perturbation import flux_scale, simulate_perturbed
from .windows import mask_windows


@dataclass(frozen=True)
class Retention:
    """How many samples passed."""

    passed: int
    samples: int
    left_out: int
    """Samples with a flux that is not finite, about which nothing can be said."""

    @property
    def share(self) -> float:
        """Share that passed [-]; NaN without a sample."""
        return self.passed / self.samples if self.samples else float("nan")


def measure_retention(
    evaluation: Evaluation, factors: Tensor, window_days: int, tolerance: float, days: Tensor | None = None
) -> Retention:
    """Simulate the members under each set of instruments and count the samples that pass.

    Args:
        evaluation: The members at their present parameters.
        factors: Sets of instruments, (D, F), as :func:`~lit_invert_invariance.perturbation.draw_factors` returns.
        window_days: Length of a window [d].
        tolerance: Largest change of a sample that passes, as a share of a flux's spread over the record at the prior [-].
        days: Only windows that hold one of these days count, a boolean (1 or B, T)-dim tensor; every window when omitted.

    Example:
        >>> from lit_invert.testing import toy_problem
        >>> from .perturbation import draw_factors
        >>> evaluation = toy_problem().evaluate(torch.zeros(2, 3).double())
        >>> factors = draw_factors(evaluation.surrogate.spec.drivers, 10, 0.02, seed=0)
        >>> [measure_retention(evaluation, factors, 30, tolerance) for tolerance in (0.0, 1.0)]
        [Retention(passed=0, samples=40, left_out=0), Retention(passed=40, samples=40, left_out=0)]
    """
    changes = measure_changes(evaluation, factors, window_days, days)
    left_out = int(changes.isnan().sum())
    return Retention(int((changes <= tolerance).sum()), len(changes) - left_out, left_out)


@torch.no_grad()
def measure_changes(evaluation: Evaluation, factors: Tensor, window_days: int, days: Tensor | None = None) -> Tensor:
    """Return by how much each sample changes: the RMS over its window of the flux that changes most.

    Args:
        evaluation: The members at their present parameters.
        factors: Sets of instruments, (D, F).
        window_days: Length of a window [d].
        days: Only windows that hold one of these days are samples, (1 or B, T) bool.

    Returns:
        One number a sample, (N,), as a share of the flux's spread over the record at the prior [-]; NaN where a flux is not finite.
    """
    change = (simulate_perturbed(evaluation, factors) - evaluation.simulated) / flux_scale(evaluation)[:, None]
    windows = mask_windows(evaluation.days, window_days)
    if days is not None:
        windows = windows & (windows & days[..., None]).any(1, keepdim=True)
    windows = windows.expand(len(evaluation.scaled), -1, -1).to(change)
    is_finite = change.isfinite().all(-1)
    square = torch.where(is_finite[..., None], change, 0.0).square()
    lengths = windows.sum(1)
    mean_square = torch.einsum("dbtv,btw->dbwv", square, windows) / lengths.clamp_min(1)[..., None]
    is_whole = torch.einsum("dbt,btw->dbw", (~is_finite).to(change), windows) == 0
    return torch.where(is_whole, mean_square.amax(-1).sqrt(), torch.nan)[:, lengths > 0].flatten()
