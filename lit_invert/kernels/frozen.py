"""A recurrent network as the kernels see it: weights that never change, and forcing whose share is known before the fit.

What a member (a start, a site) adds is four small arrays, :class:`Member`; what comes back are the outputs of the head's last
linear map, `z`. Everything else of a surrogate, the embedding before and the softplus after, is cheap and stays in PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Member(NamedTuple):
    """What B members bring: B rows each, or tangents of these in K directions, (B, K, ...)."""

    gates: Tensor
    """Share of the gates of the first layer in every day, (B, 4 H), in PyTorch's order i, f, g, o."""
    features: Tensor
    """Share of the head's features in every day, (B, G); G is 0 for a linear head."""
    hidden: Tensor
    """Hidden state before the first day, (B, L, H)."""
    cell: Tensor
    """Cell state before the first day, (B, L, H)."""


@dataclass(frozen=True)
class FrozenLSTM:
    """L layers of H hidden units, a head of G features and Z outputs, over T days; float32 on the CPU."""

    recurrent: tuple[Tensor, ...]
    """Weights of the gates: (4 H, H) of the layer's own state; above the first layer (4 H, 2 H) of [state below, own state]."""
    biases: tuple[Tensor, ...]
    """Biases of the layers above the first, (4 H,) each."""
    from_hidden: Tensor | None
    """Weights of the features, (G, H); None for a linear head."""
    out_weight: Tensor
    """Weights of the outputs, (Z, G), or (Z, H) for a linear head."""
    out_bias: Tensor
    """Biases of the outputs, (Z,)."""
    forcing_gates: Tensor
    """Share of forcing and bias in the gates of the first layer, (1 or B, T, 4 H)."""
    forcing_features: Tensor
    """Share of forcing and bias in the features, (1 or B, T, G)."""

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.recurrent)

    @property
    def hidden_size(self) -> int:
        """Number of hidden units of a layer."""
        return self.recurrent[0].shape[1]

    @property
    def days(self) -> int:
        """Number of days."""
        return self.forcing_gates.shape[1]

    def first(self, days: int) -> FrozenLSTM:
        """Return the same for the first days alone, sharing memory."""
        return replace(self, forcing_gates=self.forcing_gates[:, :days], forcing_features=self.forcing_features[:, :days])


def rows_of(values: Tensor, rows: Tensor | None) -> Tensor:
    """Return the rows that belong to some members, (b, ...); None asks for all in order, and a single row serves everyone."""
    return values if rows is None or len(values) == 1 else values[rows]


def is_same(a: Tensor | None, b: Tensor | None) -> bool:
    """Say whether two tensors hold the same, in the same type on the same device, or both are None."""
    if a is None or b is None:
        return a is b
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)


class Kernel(Protocol):
    """Simulate, pull a gradient back, push tangents forward: the three passes that share one frozen network.

    `rows` picks the members' rows of forcing where each has its own; None: all in order, or the one that they share.
    """

    name: str

    def first(self, days: int) -> Kernel:
        """Return the same for the first days alone."""
        ...

    def simulate(self, member: Member, rows: Tensor | None) -> tuple[Tensor, object]:
        """Return the outputs (B, T, Z), and what `pull` and `push` go on from."""
        ...

    def pull(self, member: Member, rows: Tensor | None, kept: object, cotangent: Tensor) -> Member:
        """Return the gradient with respect to what the members bring, given that of the outputs, (B, T, Z)."""
        ...

    def push(self, member: Member, rows: Tensor | None, tangents: Member, kept: object) -> Tensor:
        """Return the tangents of the outputs in K directions, (B, T, Z, K), given what `simulate` kept."""
        ...
