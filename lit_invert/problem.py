"""The heart: one inversion as a pure function of theta.

:class:`InversionProblem` joins a frozen surrogate, the forcing, the observed days of the `fit` role, the parameter space and the
loss terms. Given theta (B, P) it simulates, and returns every term and the total of each member. It knows neither Lightning nor
files, and it never sees a `select` or `test` day. Whoever moves theta (Adam under a Trainer, a least-squares solver, a sampler)
asks this and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .errors import ConfigError, ShapeError
from .kernels.frozen import rows_of
from .losses.base import Evaluation, LossTerm, Tangent
from .parameters import ParameterSpace
from .simulators import Simulator
from .surrogates.base import Forcing, FrozenSurrogate
from .surrogates.held import HeldForcing


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
        days: True on days that count, a boolean (1 or B, T)-dim tensor: not in the warm-up, not beyond a shorter record; every day
            when omitted.
        build_simulator: From surrogate and forcing to the simulator; the one that runs no kernel when omitted.
        sites: Names of the members' sites, or of the one that all belong to, for terms that know sites apart.

    Raises:
        ShapeError: If observations, mask and outputs do not fit together, or a used day is not finite.
        ConfigError: If two terms share a name.
    """

    observed: Tensor
    mask: Tensor
    sigma: Tensor | None
    days: Tensor

    def __init__(
        self,
        surrogate: FrozenSurrogate,
        space: ParameterSpace,
        forcing: Forcing,
        observed: Tensor,
        mask: Tensor,
        terms: Sequence[LossTerm],
        sigma: Tensor | None = None,
        build_simulator: Callable[[FrozenSurrogate, Forcing], Simulator] = Simulator,
        days: Tensor | None = None,
        sites: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.space, self.sites = space, tuple(sites)
        self.terms = _in_order(terms)
        self._forcing = HeldForcing(forcing)
        self._build_simulator = build_simulator
        self.simulator = build_simulator(surrogate, forcing)
        _check_observed(observed, mask, sigma, len(surrogate.spec.outputs))
        self.register_buffer("observed", torch.where(mask, observed, 0.0), persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("sigma", sigma, persistent=False)
        self.register_buffer("days", mask.new_ones(1, mask.shape[1]) if days is None else days, persistent=False)

    @property
    def surrogate(self) -> FrozenSurrogate:
        """The frozen surrogate."""
        return self.simulator.surrogate

    @property
    def forcing(self) -> Forcing:
        """Drivers in physical units."""
        return self._forcing.value

    def variant(
        self,
        *,
        surrogate: FrozenSurrogate | None = None,
        forcing: Forcing | None = None,
        observed: Tensor | None = None,
        mask: Tensor | None = None,
        terms: Sequence[LossTerm] | None = None,
    ) -> InversionProblem:
        """Return the same question asked of another surrogate, weather or record, or another loss; what is left out is shared.

        Args:
            surrogate: Another surrogate of the same parameters and outputs.
            forcing: Other drivers in physical units, for the same days.
            observed: Other observations, (1 or B, T, V) [gC m-2 d-1], whose members may be more than this problem's one.
            mask: Other observed days, a boolean tensor of the same shape.
            terms: Other loss terms with unique names.

        Raises:
            ShapeError: As for a new problem.
        """
        if surrogate is not None:
            _check_same_statics(surrogate, self.surrogate)
        given = mask if observed is None else observed
        if given is not None and given.shape[1:] != self.mask.shape[1:]:
            raise ShapeError(
                f"the variant has observations of shape {tuple(given.shape)}, expected (members, *{tuple(self.mask.shape[1:])})."
            )
        if mask is not None and observed is None and bool((mask & ~self.mask).any()):
            raise ShapeError("the variant's mask has days that are not observed here. Give their observations, too.")
        observed = self.observed if observed is None else observed
        mask = self.mask if mask is None else mask
        observed, mask = torch.broadcast_tensors(observed, mask)
        sigma = None if self.sigma is None else self.sigma.expand_as(mask)
        _check_observed(observed, mask, sigma, len(self.surrogate.spec.outputs))
        other = copy.copy(self)
        other._modules, other._buffers = dict(self._modules), dict(self._buffers)
        other._buffers.update(observed=torch.where(mask, observed, 0.0), mask=mask.clone(), sigma=sigma)
        if terms is not None:
            other._modules["terms"] = _in_order(terms)
        if forcing is not None:
            other._modules["_forcing"] = HeldForcing(forcing)
        if surrogate is not None or forcing is not None:
            other._modules["simulator"] = self._build_simulator(surrogate or self.surrogate, other.forcing)
        return other

    def first(self, days: int | Sequence[int]) -> InversionProblem:
        """Return the problem of the first days alone, of each member's own where several numbers are given.

        Surrogate, space and terms are shared.
        """
        most = days if isinstance(days, int) else max(days)
        shorter = copy.copy(self)
        shorter._modules = {**self._modules, "simulator": self.simulator.first(most), "_forcing": self._forcing.first(most)}
        shorter._buffers = {name: None if value is None else value[:, :most] for name, value in self._buffers.items()}
        if not isinstance(days, int):
            own = torch.arange(most, device=self.mask.device) < torch.tensor(days, device=self.mask.device)[:, None]
            shorter.days, shorter.mask = shorter.days & own, shorter.mask & own[..., None]
        return shorter

    def simulate(self, theta: Tensor) -> Tensor:
        """Simulate the fluxes of each member.

        Args:
            theta: A (B, P)-dim tensor.

        Returns:
            A (B, T, V)-dim tensor [gC m-2 d-1].
        """
        return self._simulate(self._scale(self.space.to_physical(theta)))

    def _scale(self, physical: Tensor) -> Tensor:
        return self.space.scaler.to_scaled(physical)

    def _simulate(self, scaled: Tensor, members: Tensor | None = None) -> Tensor:
        simulated: Tensor = self.simulator(scaled, members)
        self._check_length(simulated)
        return simulated

    def _check_length(self, simulated: Tensor) -> None:
        if simulated.shape[1] != self.observed.shape[1]:
            raise ShapeError(
                f"the surrogate simulates {simulated.shape[1]} days but {self.observed.shape[1]} are observed. "
                "Give both for the same days; unobserved ones are masked."
            )

    def evaluate(self, theta: Tensor, members: Tensor | None = None) -> Evaluation:
        """Simulate and return all that a loss term may see.

        Args:
            theta: A (B, P)-dim tensor.
            members: Which members of the problem these are, (B,); None: all, in order.
        """
        physical = self.space.rows(members).to_physical(theta)
        scaled = self._scale(physical)
        return self._evaluation(physical, scaled, self._simulate(scaled, members), members)

    def push(self, theta: Tensor, members: Tensor | None = None) -> tuple[Evaluation, Tangent, Tensor]:
        """Evaluate, and push a tangent along each free component of theta forward.

        Args:
            theta: A (B, P)-dim tensor.
            members: As in `evaluate`.

        Returns:
            The evaluation, its K tangents, and the places of the K free components.
        """
        theta, space = theta.detach(), self.space.rows(members)
        physical, directions = space.to_physical(theta), space.push(theta)
        scaled = self._scale(physical)
        simulated, pushed = self.simulator.push(scaled, directions.scaled, members)
        self._check_length(simulated)
        tangent = Tangent(directions.scaled, directions.physical, directions.lower, directions.upper, pushed)
        return self._evaluation(physical, scaled, simulated, members), tangent, directions.free

    def _evaluation(self, physical: Tensor, scaled: Tensor, simulated: Tensor, members: Tensor | None) -> Evaluation:
        space = self.space.rows(members)
        lower, upper = space.bounds.resolve(physical)
        return Evaluation(
            scaled=scaled,
            physical=physical,
            simulated=simulated,
            observed=rows_of(self.observed, members),
            mask=rows_of(self.mask, members),
            sigma=None if self.sigma is None else rows_of(self.sigma, members),
            forcing=self._forcing.rows(members),
            days=rows_of(self.days, members),
            parameters=space.table.names,
            lower=lower,
            upper=upper,
            prior_scaled=self._scale(space.prior),
            prior_sd_scaled=space.prior_sd_scaled,
            outputs=self.surrogate.spec.output_names,
            drivers=tuple(v.name for v in self.surrogate.spec.drivers),
            members=members,
            surrogate=self.surrogate,
            sites=self._sites_of(members),
        )

    def _sites_of(self, members: Tensor | None) -> tuple[str, ...]:
        if members is None or len(self.sites) < 2:
            return self.sites
        return tuple(self.sites[member] for member in members.tolist())

    def forward(self, theta: Tensor, members: Tensor | None = None) -> Loss:
        """Return the loss of each member, term by term.

        Args:
            theta: A (B, P)-dim tensor.
            members: As in `evaluate`.
        """
        return self.loss_of(self.evaluate(theta, members))

    def loss_of(self, evaluation: Evaluation) -> Loss:
        """Return the loss of each member of an evaluation, term by term."""
        terms = {term.name: term(evaluation) for term in self.loss_terms}
        weighted = {term.name: term.weight * terms[term.name] for term in self.loss_terms}
        return Loss(torch.stack(list(weighted.values())).sum(0), terms, weighted, evaluation)

    @property
    def loss_terms(self) -> list[LossTerm]:
        """The terms, in order of their names."""
        return [term for term in self.terms if isinstance(term, LossTerm)]


def _check_same_statics(other: FrozenSurrogate, known: FrozenSurrogate) -> None:
    """Refuse a surrogate of other static parameters, or of another scaling: the space of the problem is that of the old one."""
    there, here = ([(v.name, v.mean, v.std, v.log) for v in surrogate.spec.statics] for surrogate in (other, known))
    if there != here:
        raise ShapeError(
            "the variant's surrogate has other static parameters, or another scaling of them. Build a problem of its own."
        )


def _in_order(terms: Sequence[LossTerm]) -> nn.ModuleList:
    """Return terms in order of their names, which must be unique."""
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{names.count(name)} loss terms are named {name!r}; give each its own `name`, or keep one.")
    ordered = sorted(terms, key=lambda term: term.name)
    return nn.ModuleList(ordered)


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
