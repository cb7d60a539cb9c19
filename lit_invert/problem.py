"""The heart: one inversion as a pure function of theta.

:class:`InversionProblem` joins a frozen surrogate, the forcing, the observed days of the `fit` role, the parameter space and the
loss terms. Given theta (B, P) it simulates, and returns every term and the total of each member. It knows neither Lightning nor
files, and it never sees a `select` or `test` day. Whoever moves theta (Adam under a Trainer, a least-squares solver, a sampler)
asks this and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .errors import ConfigError, ShapeError
from .losses.base import Evaluation, LossTerm
from .parameters import ParameterSpace
from .surrogates.base import Forcing, FrozenSurrogate


@dataclass(frozen=True)
class Loss:
    """The loss of each of B members at one theta."""

    total: Tensor
    """Sum of weight times term, (B,)."""
    terms: dict[str, Tensor]
    """Unweighted terms by name, each (B,)."""
    weighted: dict[str, Tensor]
    """The same times their weights; these sum to `total`."""
    evaluation: Evaluation
    """What the terms were computed from."""


class InversionProblem(nn.Module):
    """Loss of static parameters given forcing, observations, prior and terms.

    Args:
        surrogate: The frozen surrogate.
        space: Parameters and their spaces.
        forcing: Physical drivers, a (1 or B, T, F)-dim tensor, or a dict of tensors for windowed surrogates.
        observed: A (1 or B, T, V)-dim tensor in the order of the surrogate's outputs [gC m-2 d-1]; NaN where there is none.
        mask: A boolean tensor of the same shape, true on the days of the `fit` role.
        terms: Loss terms with unique names.
        sigma: Standard deviation of each observation, same shape [gC m-2 d-1].

    Raises:
        ShapeError: If observations, mask and outputs do not fit together, or a used day is not finite.
        ConfigError: If two terms share a name.
    """

    observed: Tensor
    mask: Tensor
    sigma: Tensor | None

    def __init__(
        self,
        surrogate: FrozenSurrogate,
        space: ParameterSpace,
        forcing: Forcing,
        observed: Tensor,
        mask: Tensor,
        terms: Sequence[LossTerm],
        sigma: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.surrogate, self.space = surrogate, space
        _check_names([term.name for term in terms])
        ordered = sorted(terms, key=lambda term: term.name)
        self.terms = nn.ModuleList(ordered)
        self._hold("forcing", forcing)
        self._hold("_prepared", surrogate.prepare(forcing))
        _check_observed(observed, mask, sigma, len(surrogate.spec.outputs))
        self.register_buffer("observed", torch.where(mask, observed, 0.0), persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("sigma", sigma, persistent=False)

    def _hold(self, name: str, forcing: Forcing) -> None:
        """Keep forcing as buffers, so that it follows the module from device to device."""
        if isinstance(forcing, dict):
            for key, value in forcing.items():
                self.register_buffer(f"{name}:{key}", value, persistent=False)
        else:
            self.register_buffer(name, forcing, persistent=False)

    def _held(self, name: str) -> Forcing:
        buffers = dict(self.named_buffers(recurse=False, remove_duplicate=False))  # unscaled forcing is held twice
        if name in buffers:
            return buffers[name]
        return {key.split(":", 1)[1]: value for key, value in buffers.items() if key.startswith(f"{name}:")}

    def simulate(self, theta: Tensor) -> Tensor:
        """Simulate the fluxes of each member.

        Args:
            theta: A (B, P)-dim tensor.

        Returns:
            A (B, T, V)-dim tensor [gC m-2 d-1].
        """
        return self._simulate(self.space.scaler.to_scaled(self.space.to_physical(theta)))

    def _simulate(self, scaled: Tensor) -> Tensor:
        simulated: Tensor = self.surrogate(scaled, self._held("_prepared"))
        if simulated.shape[1] != self.observed.shape[1]:
            raise ShapeError(
                f"the surrogate simulates {simulated.shape[1]} days but {self.observed.shape[1]} are observed. "
                "Give both for the same days; unobserved ones are masked."
            )
        return simulated

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Simulate and return all that a loss term may see.

        Args:
            theta: A (B, P)-dim tensor.
        """
        space = self.space
        physical = space.to_physical(theta)
        scaled = space.scaler.to_scaled(physical)
        lower, upper = space.bounds.resolve(physical)
        return Evaluation(
            scaled=scaled,
            physical=physical,
            simulated=self._simulate(scaled),
            observed=self.observed,
            mask=self.mask,
            sigma=self.sigma,
            forcing=self._held("forcing"),
            parameters=space.table.names,
            lower=lower,
            upper=upper,
            prior_scaled=space.scaler.to_scaled(space.prior),
            prior_sd_scaled=space.prior_sd_scaled,
            outputs=self.surrogate.spec.output_names,
            drivers=tuple(v.name for v in self.surrogate.spec.drivers),
        )

    def forward(self, theta: Tensor) -> Loss:
        """Return the loss of each member, term by term.

        Args:
            theta: A (B, P)-dim tensor.
        """
        evaluation = self.evaluate(theta)
        terms = {term.name: term(evaluation) for term in self._terms()}
        weighted = {term.name: term.weight * terms[term.name] for term in self._terms()}
        return Loss(torch.stack(list(weighted.values())).sum(0), terms, weighted, evaluation)

    def _terms(self) -> list[LossTerm]:
        return [term for term in self.terms if isinstance(term, LossTerm)]


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{names.count(name)} loss terms are named {name!r}; give each its own `name`, or keep one.")


def _check_observed(observed: Tensor, mask: Tensor, sigma: Tensor | None, outputs: int) -> None:
    for name, value in (("mask", mask), ("sigma", sigma)):
        if value is not None and value.shape != observed.shape:
            raise ShapeError(f"{name} has shape {tuple(value.shape)}, expected that of the observations: {tuple(observed.shape)}.")
    if mask.dtype != torch.bool:
        raise ShapeError(f"mask holds {mask.dtype}, expected true and false. Compare it with a number first, e.g. `mask > 0`.")
    if observed.dim() != 3 or observed.shape[-1] != outputs:
        raise ShapeError(f"observations have shape {tuple(observed.shape)}, expected (batch, time, {outputs}).")
    if not bool(torch.isfinite(observed[mask]).all()):
        raise ShapeError("observations are not finite on days that the mask marks as observed. Mend the mask or the data.")
    if sigma is not None and not bool((torch.isfinite(sigma[mask]) & (sigma[mask] > 0)).all()):
        raise ShapeError("sigma must be positive and finite on every observed day. Mend the uncertainty column, or leave it out.")
