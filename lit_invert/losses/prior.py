"""The prior: a price for leaving what was believed before the data."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .base import Evaluation, SquaredTerm, Tangent


class Prior(SquaredTerm):
    r"""Squared distance of the free parameters from their prior.

    .. math:: L = \sum_i \left( \frac{s_i - s_i^{prior}}{d_i} \right)^2

    in the surrogate's scaled space. With `unit: scaled` (the default) d is one; with `unit: prior_sd` it is each parameter's own
    prior standard deviation, so that the term is minus twice the logarithm of a Gaussian prior. A misfit that is the mean over n
    independent days of variance :math:`\sigma^2` makes the maximum a posteriori estimate when the weight is :math:`\sigma^2 / n`.

    Args:
        unit: What a distance of one means: `scaled` or `prior_sd`.
        weight: Factor of the term in the total, `lambda_prior`.
    """

    name = "prior"

    def __init__(self, unit: Literal["scaled", "prior_sd"] = "scaled", weight: float = 1.0) -> None:
        super().__init__(weight)
        self.unit = unit

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the distance of each parameter, (B, P) [-]."""
        return self._in_units(evaluation, evaluation.scaled - evaluation.prior_scaled)

    def push_residuals(self, evaluation: Evaluation, tangent: Tangent) -> Tensor:
        """Return the derivative of the distances, (B, P, K)."""
        return self._in_units(evaluation, tangent.scaled).transpose(1, 2)

    def _in_units(self, evaluation: Evaluation, distance: Tensor) -> Tensor:
        return distance / evaluation.prior_sd_scaled if self.unit == "prior_sd" else distance
