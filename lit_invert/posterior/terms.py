r"""Minus twice a log posterior, as loss terms: so every solver, kernel and bound of an inversion serves the posterior, too.

.. math:: -2 \log p(\theta \mid o) = \sum_v e_v^T e_v + |u - c|^2 + \text{const}

with the whitened residuals e of each flux (:mod:`lit_invert.posterior.noise`) and parameters u in prior units: distances from the
prior in the surrogate's scaled space, over the prior's standard deviation. The centre c is zero, or a draw from the prior where a
randomised estimate is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..kernels.frozen import rows_of
from ..losses import SquaredTerm
from ..losses.base import Evaluation, Tangent, index_of
from .noise import Noise, whiten


class Likelihood(SquaredTerm):
    """Chi-square of the observed fluxes under their noise.

    Args:
        noise: Noise of each flux that counts, by name.
        weight: Factor of the term in the total; 1 for a posterior.
    """

    name = "likelihood"

    def __init__(self, noise: Mapping[str, Noise], weight: float = 1.0) -> None:
        super().__init__(weight)
        self.fluxes = tuple(noise)
        for name, one in noise.items():
            self.register_buffer(f"deviation_{name}", one.deviation, persistent=False)
            self.register_buffer(f"rho_{name}", one.rho, persistent=False)

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the whitened residuals of all fluxes, (B, N) [-]."""
        parts = []
        for name in self.fluxes:
            place = index_of(name, evaluation.outputs, "output of the surrogate")
            difference = evaluation.simulated[..., place] - evaluation.observed[..., place]
            parts.append(self._whiten(difference, name, place, evaluation))
        return torch.cat(parts, dim=1)

    def push_residuals(self, evaluation: Evaluation, tangent: Tangent) -> Tensor:
        """Return the derivatives of the whitened residuals, (B, N, K)."""
        parts = []
        for name in self.fluxes:
            place = evaluation.outputs.index(name)
            parts.append(self._whiten(tangent.simulated[:, :, place], name, place, evaluation))
        return torch.cat(parts, dim=1)

    def _whiten(self, values: Tensor, name: str, place: int, evaluation: Evaluation) -> Tensor:
        members = evaluation.members
        deviation, rho = (rows_of(getattr(self, f"{what}_{name}"), members).to(values) for what in ("deviation", "rho"))
        mask = evaluation.mask[..., place].expand(values.shape[:2])
        return whiten(values, mask, deviation.expand(values.shape[:2]), rho.expand(len(values)))


class GaussianPrior(SquaredTerm):
    """Squared distance from the prior in units of its standard deviation.

    Args:
        centre: Where the prior of each member stands, (1 or B, P), in prior units; the prior itself when omitted.
        weight: Factor of the term in the total; 1 for a posterior.
    """

    name = "prior"
    centre: Tensor | None

    def __init__(self, centre: Tensor | None = None, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.register_buffer("centre", centre, persistent=False)

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the distance of each parameter, (B, P) [-]."""
        units = (evaluation.scaled - evaluation.prior_scaled) / evaluation.prior_sd_scaled
        return units if self.centre is None else units - rows_of(self.centre, evaluation.members).to(units)

    def push_residuals(self, evaluation: Evaluation, tangent: Tangent) -> Tensor:
        """Return the derivatives of the distances, (B, P, K)."""
        deviation = evaluation.prior_sd_scaled
        return (tangent.scaled / (deviation.unsqueeze(1) if deviation.dim() == 2 else deviation)).transpose(1, 2)
