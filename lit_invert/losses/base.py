"""What a loss term is: one number for each member of a batch, from what an inversion may see.

A term reads an :class:`Evaluation`, the simulated fluxes at some theta beside the observed days of the `fit` role and nothing
else, and returns its unweighted value. The total loss is the sum of weight times value, in order of the terms' names, so that it
does not depend on which plugin was loaded first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..errors import ConfigError, suggest
from ..surrogates.base import Forcing


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
    parameters: tuple[str, ...]
    """Names of the P static parameters."""
    lower: Tensor
    """Lower bounds at these parameters, (B, P), in the table's units; -inf where there is none."""
    upper: Tensor
    """Upper bounds, likewise."""
    prior_scaled: Tensor
    """The prior as the surrogate takes it, (P,) [-]."""
    prior_sd_scaled: Tensor
    """The prior's standard deviation in the same space, (P,) [-]."""
    outputs: tuple[str, ...]
    """Names of the V outputs."""
    drivers: tuple[str, ...]
    """Names of the F drivers."""

    def flux(self, name: str) -> Tensor:
        """Return one simulated flux, (B, T) [gC m-2 d-1].

        Raises:
            ConfigError: If the surrogate has no output of that name.
        """
        return self.simulated[..., index_of(name, self.outputs, "output of the surrogate")]

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


class LossTerm(nn.Module, ABC):
    """One term of the loss. Subclass it, give it a unique `name`, and return it from the hook `register_loss_terms`.

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


def index_of(name: str, names: Sequence[str], what: str) -> int:
    """Return the place of a name.

    Raises:
        ConfigError: If it is not among the names.
    """
    if name not in names:
        raise ConfigError(f"{name!r} is not a known {what}.{suggest(name, names)}")
    return list(names).index(name)
