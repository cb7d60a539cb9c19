"""The misfit: how far simulated fluxes are from observed ones, over observed days only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ConfigError
from .base import Evaluation, LossTerm, Tangent, index_of

#: Weights of the outputs when several are used: NEP is what a tower measures, the others are derived.
OUTPUT_WEIGHTS: Mapping[str, float] = {"nep": 1.0, "gpp": 0.2, "npp": 0.2, "rh": 0.2}


def masked_mean_square(simulated: Tensor, observed: Tensor, mask: Tensor, sigma: Tensor | None = None) -> Tensor:
    r"""Mean squared difference over the observed days.

    .. math:: L = \frac{1}{|\Omega|} \sum_{t \in \Omega} w_t (s_t - o_t)^2, \qquad
        w_t = \frac{\sigma_t^{-2}}{|\Omega|^{-1} \sum_{u \in \Omega} \sigma_u^{-2}}

    Without `sigma` all weights are one. With it, days count by the inverse of their variance, normalised to a mean of one so that
    the misfit keeps its unit and the prior its relative weight.

    Args:
        simulated: A (B, T)-dim tensor [gC m-2 d-1].
        observed: A (1 or B, T)-dim tensor, finite where `mask` is true [gC m-2 d-1].
        mask: A boolean tensor of the same shape, true where observed.
        sigma: Standard deviation of each observation, positive where `mask` is true [gC m-2 d-1].

    Returns:
        A (B,)-dim tensor [(gC m-2 d-1)^2]; zero for a member without an observed day.

    Example:
        >>> masked_mean_square(torch.tensor([[1.0, 2.0, 9.0]]), torch.zeros(1, 3), torch.tensor([[True, True, False]]))
        tensor([2.5000])
    """
    difference = torch.where(mask, simulated - observed, 0.0)
    count = mask.sum(-1).clamp_min(1)
    if sigma is None:
        return difference.square().sum(-1) / count
    precision = torch.where(mask, torch.where(mask, sigma, 1.0).square().reciprocal(), 0.0)
    return (precision * difference.square()).sum(-1) / precision.sum(-1).clamp_min(torch.finfo(precision.dtype).tiny)


class Misfit(LossTerm):
    """Masked mean squared error of the target flux, or of several fluxes with the target heaviest.

    Args:
        target: The flux that counts most, `nep`.
        multi_output: Whether every observed flux counts, by its weight.
        output_weights: Weight of each flux when several are used; `nep` 1.0 and the others 0.2 by default. The weights of the
            observed fluxes are normalised to a sum of one.
        use_sigma: Whether days count by their stated uncertainty, if the data give one.
        sigma_floor: What is added to that uncertainty in quadrature: the error of a model that no tower states. Without it the calm
            days of winter, measured to a few hundredths, would decide the fit alone [gC m-2 d-1].
        weight: Factor of the term in the total.

    Raises:
        ConfigError: If a weight is negative, or the target does not weigh most.
    """

    name = "misfit"

    def __init__(
        self,
        target: str = "nep",
        multi_output: bool = False,
        output_weights: Mapping[str, float] | None = None,
        use_sigma: bool = True,
        sigma_floor: float = 0.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.target, self.multi_output, self.use_sigma, self.sigma_floor = target, multi_output, use_sigma, sigma_floor
        self.output_weights = dict(OUTPUT_WEIGHTS if output_weights is None else output_weights)
        if multi_output:
            self.output_weights.setdefault(target, max(self.output_weights.values(), default=1.0))
            heaviest = max(self.output_weights, key=lambda name: self.output_weights[name])
            if min(self.output_weights.values()) < 0 or self.output_weights[target] < self.output_weights[heaviest]:
                raise ConfigError(
                    f"output_weights {self.output_weights!r}: weights must not be negative and the target {target!r} must weigh "
                    f"most, but {heaviest!r} does. Mend `inversion.output_weights`."
                )

    def forward(self, evaluation: Evaluation) -> Tensor:
        """Return the misfit of each member, a (B,)-dim tensor [(gC m-2 d-1)^2]."""
        values = [
            share
            * masked_mean_square(
                evaluation.simulated[..., place],
                evaluation.observed[..., place],
                evaluation.mask[..., place],
                self._deviation(place, evaluation),
            )
            for place, share in self._shares(evaluation)
        ]
        return torch.stack(values).sum(0)

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the weighted differences whose squares sum to the misfit, (B, N); zero on days without an observation."""
        return torch.cat(
            [
                torch.where(mask, evaluation.simulated[..., place] - evaluation.observed[..., place], 0.0) * factor
                for place, mask, factor in self._factors(evaluation)
            ],
            dim=-1,
        )

    def push_residuals(self, evaluation: Evaluation, tangent: Tangent) -> Tensor:
        """Return the derivative of the residuals, (B, N, K): that of the fluxes times each day's factor."""
        parts = [factor.unsqueeze(-1) * tangent.simulated[:, :, place] for place, _, factor in self._factors(evaluation)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _shares(self, evaluation: Evaluation) -> list[tuple[int, Tensor]]:
        """Return the place of each flux that counts, and its share for each member, (1 or B,); they sum to one.

        A flux that a member has no observation of counts nothing for it; a member without any has its target.
        """
        target = index_of(self.target, evaluation.outputs, "output of the surrogate")
        one = evaluation.simulated.new_ones(())
        if not self.multi_output:
            return [(target, one)]
        places = [evaluation.outputs.index(name) for name in self.output_weights if name in evaluation.outputs]
        given = one.new_tensor([self.output_weights[evaluation.outputs[place]] for place in places])
        weights = torch.where(evaluation.mask[..., places].any(1), given, 0.0)
        total = weights.sum(-1, keepdim=True)
        alone = torch.tensor([place == target for place in places], device=weights.device).to(weights)
        shares = torch.where(total > 0, weights / total.clamp_min(torch.finfo(weights.dtype).tiny), alone)
        return list(zip(places, shares.unbind(-1), strict=True))

    def _deviation(self, place: int, evaluation: Evaluation) -> Tensor | None:
        if evaluation.sigma is None or not self.use_sigma:
            return None
        return (evaluation.sigma[..., place].square() + self.sigma_floor**2).sqrt()

    def _factors(self, evaluation: Evaluation) -> list[tuple[int, Tensor, Tensor]]:
        """Return each flux that counts: its place, its mask, and the root of each day's weight, zero where not observed."""
        factors = []
        for place, share in self._shares(evaluation):
            mask, sigma = evaluation.mask[..., place], self._deviation(place, evaluation)
            precision = mask.to(evaluation.simulated) if sigma is None else torch.where(mask, sigma.square().reciprocal(), 0.0)
            total = precision.sum(-1, keepdim=True).clamp_min(torch.finfo(precision.dtype).tiny)
            factors.append((place, mask, (share.unsqueeze(-1) * precision / total).sqrt()))
        return factors
