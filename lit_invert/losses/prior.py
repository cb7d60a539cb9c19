"""The prior: a price for leaving what was believed before the data."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..kernels.frozen import rows_of
from .base import Evaluation, SquaredTerm, Tangent


class Prior(SquaredTerm):
    r"""Squared distance of the free parameters from their prior.

    .. math:: L = \sum_i \frac{1}{n_i} \left( \frac{s_i - s_i^{prior}}{d_i} \right)^2

    in the surrogate's scaled space. With `unit: scaled` (the default) d is one; with `unit: prior_sd` it is each parameter's own
    prior standard deviation, so that the term is minus twice the logarithm of a Gaussian prior. A misfit that is the mean over n
    independent days of variance :math:`\sigma^2` makes the maximum a posteriori estimate when the weight is :math:`\sigma^2 / n`.

    The divisor n is one, unless members share a parameter: n of them would count its prior n times where it is one value with one
    prior. Where the sharers' priors differ, the sum is the squared distance from their mean, up to a constant.

    Args:
        unit: What a distance of one means: `scaled` or `prior_sd`.
        weight: Factor of the term in the total, `lambda_prior`.
        shared_by: How many members of the problem share each parameter, (1 or B, P); inf where the prior counts nothing. None where
            nothing is shared.
    """

    name = "prior"
    shared_by: Tensor | None

    def __init__(
        self, unit: Literal["scaled", "prior_sd"] = "scaled", weight: float = 1.0, shared_by: Tensor | None = None
    ) -> None:
        super().__init__(weight)
        self.unit = unit
        self.register_buffer("shared_by", shared_by, persistent=False)

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the distance of each parameter, (B, P) [-]."""
        return (evaluation.scaled - evaluation.prior_scaled) / self._divisor(evaluation)

    def push_residuals(self, evaluation: Evaluation, tangent: Tangent) -> Tensor:
        """Return the derivative of the distances, (B, P, K)."""
        divisor = self._divisor(evaluation)
        own = divisor.unsqueeze(1) if isinstance(divisor, Tensor) and divisor.dim() == 2 else divisor
        return (tangent.scaled / own).transpose(1, 2)

    def _divisor(self, evaluation: Evaluation) -> Tensor | float:
        """Return what a distance is divided by, (P,) or (B, P), or a number."""
        unit = evaluation.prior_sd_scaled if self.unit == "prior_sd" else 1.0
        return unit if self.shared_by is None else unit * rows_of(self.shared_by, evaluation.members).sqrt()
