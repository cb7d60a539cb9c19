"""What a process model is to lit-invert: parameters and forcing in, fluxes out, all in physical units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class ProcessModel(Protocol):
    """The model that a surrogate imitates; a plugin returns its own from `register_process_models`."""

    @property
    def name(self) -> str:
        """What a config says as `resimulate` to choose it."""

    @property
    def statics(self) -> Sequence[str]:
        """Names of the P static parameters, in order."""

    @property
    def drivers(self) -> Sequence[str]:
        """Names of the F drivers, in order."""

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the V fluxes, in order."""

    def __call__(self, static_physical: Tensor, forcing: Tensor) -> Tensor:
        """Simulate.

        Args:
            static_physical: Static parameters in the table's units, a (B, P)-dim tensor.
            forcing: Drivers in physical units, a (1 or B, T, F)-dim tensor.

        Returns:
            A (B, T, V)-dim tensor [gC m-2 d-1].
        """
