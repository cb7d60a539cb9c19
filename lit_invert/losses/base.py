"""What a loss term is: one number for each member of a batch, from what an inversion may see.

A term reads an :class:`Evaluation`, the simulated fluxes at some theta beside the observed days of the `fit` role and nothing
else, and returns its unweighted value. The total loss is the sum of weight times value, in order of the terms' names, so that it
does not depend on which plugin was loaded first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError, suggest
from ..surrogates.base import Forcing, FrozenSurrogate


@dataclass(frozen=True)
class Evaluation:
    """One look at the surrogate: parameters in both spaces, simulated fluxes, and the observations that a loss may use.

    B members (starts, sites), P parameters, T days, V outputs. Batch 1 stands for "the same for every member".
    """

    scaled: Tensor
    """Static parameters as the surrogate takes them, (B, P) [-]."""
    physical: Tensor
    """Static parameters in the table's units, (B, P)."""
    simulated: Tensor
    """Fluxes, (B, T, V) [gC m-2 d-1]."""
    observed: Tensor
    """Observed fluxes, (1 or B, T, V) [gC m-2 d-1]; zero where `mask` is false."""
    mask: Tensor
    """True on observed days of the `fit` role, (1 or B, T, V)."""
    sigma: Tensor | None
    """Standard deviation of each observation, (1 or B, T, V) [gC m-2 d-1], if the data give it."""
    forcing: Forcing
    """Drivers in physical units, (1 or B, T, F)."""
    days: Tensor
    """True on days that count, (1 or B, T): not in the warm-up, and not beyond the end of a record that is shorter than T. A term
    that looks at days without an observation must look at these alone."""
    parameters: tuple[str, ...]
    """Names of the P static parameters."""
    lower: Tensor
    """Lower bounds at these parameters, (B, P), in the table's units; -inf where there is none."""
    upper: Tensor
    """Upper bounds, likewise."""
    prior_scaled: Tensor
    """The prior as the surrogate takes it, (P,), or (B, P) where each member has its own [-]."""
    prior_sd_scaled: Tensor
    """The prior's standard deviation in the same space, likewise [-]."""
    outputs: tuple[str, ...]
    """Names of the V outputs."""
    drivers: tuple[str, ...]
    """Names of the F drivers."""
    members: Tensor | None = None
    """Which members of the problem these are, (B,); None: all, in order."""
    surrogate: FrozenSurrogate | None = None
    """What simulated; None where the fluxes were simulated elsewhere."""
    sites: tuple[str, ...] = ()
    """Names of the members' sites: one a member, or one for all; empty where nobody has named them."""

    def flux(self, name: str) -> Tensor:
        """Return one simulated flux, (B, T) [gC m-2 d-1].

        Raises:
            ConfigError: If the surrogate has no output of that name.
        """
        return self.simulated[..., index_of(name, self.outputs, "output of the surrogate")]

    def simulate(self, forcing: Forcing) -> Tensor:
        """Simulate these parameters under other weather, with gradients and without a kernel.

        Args:
            forcing: Drivers in physical units, as `forcing`.

        Returns:
            Fluxes, (B, T, V) [gC m-2 d-1].

        Raises:
            ConfigError: If these fluxes were simulated elsewhere.
        """
        if self.surrogate is None:
            raise ConfigError("a loss term wants to simulate other weather, but these fluxes come without a surrogate.")
        simulated: Tensor = self.surrogate(self.scaled, self.surrogate.prepare(forcing))
        return simulated

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the days that count, (B,), of daily values, (1 or B, T)."""
        return torch.where(self.days, values, 0.0).sum(-1) / self.days.sum(-1).clamp_min(1)

    def driver(self, name: str) -> Tensor:
        """Return one driver in its physical unit, (1 or B, T).

        Raises:
            ConfigError: If there is no driver of that name, or the forcing is a dict of windows.
        """
        if isinstance(self.forcing, dict):
            raise ConfigError(f"driver {name!r} was asked for, but the forcing is a dict: {', '.join(self.forcing)}.")
        return self.forcing[..., index_of(name, self.drivers, "driver")]

    def parameter(self, name: str) -> Tensor:
        """Return one static parameter in its physical unit, (B,).

        Raises:
            ConfigError: If there is no parameter of that name.
        """
        return self.physical[..., index_of(name, self.parameters, "static parameter")]


@dataclass(frozen=True)
class Tangent:
    """How an evaluation changes along K directions: one derivative of each field that depends on the parameters."""

    scaled: Tensor
    """(B, K, P) [-]."""
    physical: Tensor
    """(B, K, P), in the table's units."""
    lower: Tensor
    """(B, K, P); not zero where a bound names another parameter."""
    upper: Tensor
    """Likewise."""
    simulated: Tensor
    """(B, T, V, K) [gC m-2 d-1]."""


class LossTerm(nn.Module, ABC):
    """One term of the loss. Subclass it, give it a unique `name`, and return it from the hook `register_loss_terms`.

    A term that is a sum of squares should say so by `residuals`: least-squares solvers then know its curvature. One that does not
    is minimised all the same, its curvature learnt from its gradients on the way.

    Args:
        weight: Factor of the term in the total.
    """

    name: ClassVar[str]

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def forward(self, evaluation: Evaluation) -> Tensor:
        """Return the unweighted term of each member, a (B,)-dim tensor."""

    def residuals(self, evaluation: Evaluation) -> Tensor | None:
        r"""Return r (B, N) with :math:`\sum_n r_n^2` the value of each member; None where the term is no sum of squares."""
        return None

    @property
    def has_residuals(self) -> bool:
        """Whether the term declares residuals."""
        return type(self).residuals is not LossTerm.residuals

    def push_residuals(self, evaluation: Evaluation, tangent: Tangent) -> Tensor:
        """Return the derivative of the residuals along K directions, (B, N, K).

        This one is exact for any residuals that torch can differentiate forward; a term overrides it to be faster.
        """
        names = ("scaled", "physical", "lower", "upper", "simulated")

        def residuals(*values: Tensor) -> Tensor:
            fields: dict[str, Any] = dict(zip(names, values, strict=True))
            r = self.residuals(replace(evaluation, **fields))
            assert r is not None
            return r

        def push(*directions: Tensor) -> Tensor:
            at = tuple(getattr(evaluation, name).contiguous() for name in names)  # bounds are expanded
            pushed: Tensor = torch.func.jvp(residuals, at, directions)[1]
            return pushed

        return torch.func.vmap(push, in_dims=(1, 1, 1, 1, 3), out_dims=2)(*(getattr(tangent, name) for name in names))


class SquaredTerm(LossTerm):
    """A term that is a sum of squares: a subclass gives its residuals and nothing else."""

    @abstractmethod
    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the residuals of each member, a (B, N)-dim tensor."""

    def forward(self, evaluation: Evaluation) -> Tensor:
        """Return the sum of squares of each member, a (B,)-dim tensor."""
        return self.residuals(evaluation).square().sum(-1)


def index_of(name: str, names: Sequence[str], what: str) -> int:
    """Return the place of a name.

    Raises:
        ConfigError: If it is not among the names.
    """
    if name not in names:
        raise ConfigError(f"{name!r} is not a known {what}.{suggest(name, names)}")
    return list(names).index(name)
