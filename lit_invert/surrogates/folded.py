"""An LSTM surrogate with its forcing folded in: what need be done once a fit is done once, the rest is a function of the statics.

The forcing's share of the gates and of the head's features is computed once. A member then enters with a handful of vectors
(`_enter`), the recurrence runs in a kernel, and the head's last nonlinearity (`leave`) stays in PyTorch. Each of the three parts
knows its tangents, so the derivative with respect to the statics can be pushed forward in many directions at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ..kernels.frozen import FrozenLSTM, Kernel, Member, is_same, rows_of
from .lstm import CarbonHead, LinearHead, LSTMSurrogate


class _Entry(NamedTuple):
    """What the statics become before the first day; as tangents each has K directions in the second dimension."""

    member: Member
    gain: Tensor
    """Logarithm of the factor on each flux, (B, 3) with a carbon head, else (B, 0)."""


@dataclass(frozen=True)
class _Run:
    """One simulation, and what it leaves for tangents: a solver linearises where it has just been."""

    static: Tensor
    rows: Tensor | None
    entry: _Entry
    z: Tensor
    kept: object

    def is_of(self, static: Tensor, rows: Tensor | None) -> bool:
        return is_same(self.static, static) and is_same(self.rows, rows)


class FoldedLSTM:
    """The same numbers as the surrogate's, for one forcing, through a kernel.

    Args:
        network: The trained network, in float32 on the CPU.
        forcing: Scaled forcing, a (1 or B, T, F)-dim tensor.
        build_kernel: From the frozen recurrence to the kernel that runs it.
    """

    def __init__(self, network: LSTMSurrogate, forcing: Tensor, build_kernel: Callable[[FrozenLSTM], Kernel]) -> None:
        self.network = network
        self.climate = network.climate(forcing) if network.climatology else None
        self.kernel = build_kernel(_fold(network, forcing))
        self._last: _Run | None = None

    def first(self, days: int) -> FoldedLSTM:
        """Return the same for the first days alone, with what is known of the climate unchanged."""
        shorter = copy.copy(self)
        shorter.kernel, shorter._last = self.kernel.first(days), None
        return shorter

    def __call__(self, static: Tensor, rows: Tensor | None = None) -> Tensor:
        """Simulate.

        Args:
            static: Scaled static parameters, a (B, P)-dim tensor.
            rows: Which row of the forcing belongs to each member, where each has its own; None: in order.

        Returns:
            A (B, T, V)-dim tensor.
        """
        with torch.autocast("cpu", enabled=False):  # kernels read float32
            entry = self._enter(static, rows)
            if torch.is_grad_enabled() and static.requires_grad:
                z: Tensor = _Recurrence.apply(*entry.member, rows, self.kernel)
            else:
                z, kept = self.kernel.simulate(entry.member, rows)
                self._last = _Run(static.clone(), None if rows is None else rows.clone(), entry, z, kept)
            return leave(self.network.head, z, entry.gain)

    def push(self, static: Tensor, directions: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Simulate, and push tangents of the statics forward.

        Args:
            static: Scaled static parameters, a (B, P)-dim tensor.
            directions: K tangents of each, a (B, K, P)-dim tensor.
            rows: As in a call.

        Returns:
            The simulated fluxes (B, T, V) and their tangents (B, T, V, K).
        """
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            last, self._last = self._last, None
            if last is None or not last.is_of(static, rows):
                entry = self._enter(static, rows)
                last = _Run(static, rows, entry, *self.kernel.simulate(entry.member, rows))
            tangent = self._push_entry(last.entry, static, directions, rows)
            pushed = self.kernel.push(last.entry.member, rows, tangent.member, last.kept)
            return push_leave(self.network.head, last.z, last.entry.gain, pushed, tangent.gain)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def _enter(self, static: Tensor, rows: Tensor | None) -> _Entry:
        network = self.network
        embedded = network.embedding(static)
        gates = embedded @ _member_part(network.lstm.weight_ih_l0, embedded, network.beside).T
        if isinstance(network.head, CarbonHead):
            features = embedded @ _member_part(network.head.from_daily.weight, embedded, network.beside).T
            gain = network.head.gain(embedded)
        else:
            features = gain = embedded.new_zeros(len(static), 0)
        hidden, cell = self._initial_state(embedded, rows)
        return _Entry(Member(gates, features, hidden, cell), gain)

    def _initial_state(self, embedded: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        network = self.network
        if network.conditioning == "concat":
            zero = embedded.new_zeros(len(embedded), network.num_layers, network.hidden_size)
            return zero, zero
        hidden, cell = network.initial_state(embedded, self._climate_of(rows))
        return hidden.transpose(0, 1), cell.transpose(0, 1)

    def _climate_of(self, rows: Tensor | None) -> Tensor | None:
        return None if self.climate is None else rows_of(self.climate, rows)

    def _push_entry(self, entry: _Entry, static: Tensor, directions: Tensor, rows: Tensor | None) -> _Entry:
        network = self.network
        embedded, tangent = _push_through(network.embedding, static, directions)
        gates = tangent @ _member_part(network.lstm.weight_ih_l0, tangent, network.beside).T
        shape = (*tangent.shape[:2], network.num_layers, network.hidden_size)
        if isinstance(network.head, CarbonHead):
            features = tangent @ _member_part(network.head.from_daily.weight, tangent, network.beside).T
            gain = tangent @ network.head.gain.weight.T
        else:
            features = gain = tangent.new_zeros(*tangent.shape[:2], 0)
        if network.conditioning == "concat":
            hidden = cell = tangent.new_zeros(shape)
        else:
            known = network.known(embedded, self._climate_of(rows))
            width = known.shape[-1] - tangent.shape[-1]
            _, state = _push_through(network.initial, known, functional.pad(tangent, (0, width)))
            hidden, cell = state.reshape(*tangent.shape[:2], 2, *shape[2:]).unbind(2)
            hidden = hidden * (1 - entry.member.hidden.square())[:, None]
        return _Entry(Member(gates, features, hidden, cell), gain)


def leave(head: nn.Module, z: Tensor, gain: Tensor) -> Tensor:
    """Turn the outputs of the head's last linear map into fluxes, (B, T, V)."""
    return head.fluxes(z, gain) if isinstance(head, CarbonHead) else z


def push_leave(head: nn.Module, z: Tensor, gain: Tensor, pushed: Tensor, gain_pushed: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same with tangents (B, T, Z, K) of the outputs and (B, K, Z) of the gain."""
    if not isinstance(head, CarbonHead):
        return z, pushed
    scale = (head.flux_scale * gain.exp())[:, None]
    softened = scale * functional.softplus(z)
    tangent = pushed.mul_((scale * torch.sigmoid(z))[..., None])
    tangent.addcmul_(softened[..., None], gain_pushed.transpose(1, 2)[:, None])
    return head.balance(softened), head.balance(tangent.transpose(2, 3)).transpose(2, 3)


def _push_through(module: nn.Module, x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Push tangents (B, K, N) at x (B, N) through a small network of linear maps and SiLUs."""
    if isinstance(module, nn.Sequential):
        for part in module:
            x, tangent = _push_through(part, x, tangent)
        return x, tangent
    if isinstance(module, nn.Linear):
        return module(x), tangent @ module.weight.T
    if isinstance(module, nn.SiLU):
        s = torch.sigmoid(x)
        return x * s, tangent * (s * (1 + x * (1 - s)))[:, None]
    if isinstance(module, nn.Identity):
        return x, tangent
    raise TypeError(f"no tangent rule for {type(module).__name__}")


def _member_part(weight: Any, embedded: Tensor, beside: bool) -> Tensor:
    """Return the columns of a weight that see the member; zeros where the member is not beside each day's forcing."""
    size = embedded.shape[-1]
    part: Tensor = weight[:, -size:] if beside else weight.new_zeros(len(weight), size)
    return part


def _fold(network: LSTMSurrogate, forcing: Tensor) -> FrozenLSTM:
    head, drivers = network.head, forcing.shape[-1]
    lstm: Any = network.lstm  # its weights are attributes by name
    own = [getattr(lstm, f"weight_hh_l{layer}") for layer in range(lstm.num_layers)]
    below = [getattr(lstm, f"weight_ih_l{layer}") for layer in range(1, lstm.num_layers)]
    biases = [getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}") for layer in range(lstm.num_layers)]
    if isinstance(head, CarbonHead):
        features = forcing @ head.from_daily.weight[:, :drivers].T + head.from_hidden.bias
        last, from_hidden = head.flux, head.from_hidden.weight
    else:
        assert isinstance(head, LinearHead)
        features, from_hidden, last = forcing.new_zeros(*forcing.shape[:2], 0), None, head.output
    return FrozenLSTM(
        recurrent=(own[0], *(torch.cat([a, b], dim=1) for a, b in zip(below, own[1:], strict=True))),
        biases=tuple(biases[1:]),
        from_hidden=from_hidden,
        out_weight=last.weight,
        out_bias=last.bias,
        forcing_gates=forcing @ lstm.weight_ih_l0[:, :drivers].T + biases[0],
        forcing_features=features,
    )


class _Recurrence(torch.autograd.Function):
    """The kernel as a differentiable function of what members bring."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, features: Tensor, hidden: Tensor, cell: Tensor, rows: Tensor | None, kernel: Kernel
    ) -> Tensor:
        member = Member(gates, features, hidden, cell)
        z, ctx.kept = kernel.simulate(member, rows)
        ctx.kernel, ctx.rows = kernel, rows
        ctx.save_for_backward(*member)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.kernel.pull(Member(*ctx.saved_tensors), ctx.rows, ctx.kept, cotangent), None, None
