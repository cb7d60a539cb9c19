"""The kernel without a C compiler: numba runs the days, PyTorch does what needs no day before.

A fit's forcing is laid out once, days first and the gates in planes. Members then run in groups that share each day's product, with
a tape small enough to stay in memory; tangents run member by member, as many days at once as fit the cache.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import KernelError
from .frozen import FrozenLSTM, Member

_GROUP = 32  # members; more at once are no faster
_GROUP_FLOATS = 1 << 24  # a group's gates over all days
_TAPE_BYTES = 1 << 29  # beyond this much, groups are simulated again on the way back
_TANGENT_ROWS = 2048  # tangents times days whose hidden states are held at once


@functools.cache
def _passes() -> ModuleType:
    """Import the compiled passes; numba takes a second to import, and is an extra.

    Raises:
        KernelError: If numba, or scipy whose BLAS it calls, is not installed.
    """
    try:
        import scipy.linalg.cython_blas  # noqa: F401

        from . import passes
    except ImportError as error:
        raise KernelError(f"numba is not installed; pip install 'lit-invert[numba]' ({error}).") from error
    return passes


class _Layer(NamedTuple):
    """The weights of one layer, as the passes take them."""

    own: Tensor
    """Of the layer's own state, gate by gate, (4, H, H)."""
    transposed: Tensor
    """The same, each gate's transposed."""
    below: Tensor
    """Of the state below, (4 H, H); (4 H, 0) for the first layer."""

    def gates_of(self, states: Tensor) -> Tensor:
        """Return the share of the states below, (..., B, H), in the gates."""
        return _planes(states @ self.below.T)


class _Tape(NamedTuple):
    """What a layer did: gates (T, 4, B, H), and its states before and after each day (T + 1, B, H)."""

    gates: Tensor
    cells: Tensor
    hiddens: Tensor


class _Run(NamedTuple):
    """A simulated group: the tape of each layer, and the features before their nonlinearity, (T, B, G)."""

    tapes: list[_Tape]
    features: Tensor

    def only(self, m: int) -> _Run:
        """Return the same for one member."""
        tapes = [_Tape(*(part[..., m : m + 1, :] for part in tape)) for tape in self.tapes]
        return _Run(tapes, self.features[:, m : m + 1])


@dataclass(frozen=True)
class _Group:
    """Members that run together, with their forcing: gates (T, 4, 1 or B, H), features (T, 1 or B, G)."""

    at: slice
    member: Member
    gates: Tensor
    features: Tensor


class NumbaKernel:
    """The three passes around one frozen network, in float32 on one thread.

    Args:
        network: Weights, and the forcing's share.

    Raises:
        KernelError: If numba is not installed.
    """

    name = "numba"

    def __init__(self, network: FrozenLSTM) -> None:
        _passes()
        self.network = network
        self._layers = [_layer(network, number) for number in range(network.layers)]
        self._gates = _planes(network.forcing_gates.transpose(0, 1))
        self._features = network.forcing_features.transpose(0, 1).contiguous()

    def first(self, days: int) -> NumbaKernel:
        """Return the same for the first days alone, sharing memory."""
        shorter = copy.copy(self)
        shorter.network = self.network.first(days)
        shorter._gates, shorter._features = self._gates[:days], self._features[:days]
        return shorter

    def simulate(self, member: Member, rows: Tensor | None) -> tuple[Tensor, object]:
        """Return the outputs (B, T, Z), and the runs of the groups, or None where they would take too much memory."""
        z = torch.empty(len(member.gates), self.network.days, len(self.network.out_bias))
        keep = len(z) * self.network.days * self._tape_width() * 4 <= _TAPE_BYTES
        kept = []
        for group in self._groups(member, rows):
            run = self._run(group)
            z[group.at] = self._head(run)
            if keep:
                kept.append(run)
        return z, kept if keep else None

    def pull(self, member: Member, rows: Tensor | None, kept: Any, cotangent: Tensor) -> Member:
        """Return the gradient with respect to what the members bring."""
        pulled = []
        for number, group in enumerate(self._groups(member, rows)):
            run = self._run(group) if kept is None else kept[number]
            pulled.append(self._pull(run, cotangent[group.at].transpose(0, 1)))
        return Member(*map(torch.cat, zip(*pulled, strict=True)))

    def push(self, member: Member, rows: Tensor | None, tangents: Member, kept: Any) -> Tensor:
        """Return the tangents of the outputs, (B, T, Z, K)."""
        members, directions = tangents.gates.shape[:2]
        pushed = torch.empty(members, self.network.days, len(self.network.out_bias), directions, dtype=torch.float32)
        if not pushed.numel():
            return pushed
        for number, group in enumerate(self._groups(member, rows)):
            run = self._run(group) if kept is None else kept[number]  # beyond the limit of memory nothing was kept
            for m, out in enumerate(pushed[group.at]):
                own = Member(*(part[group.at][m] for part in tangents))
                self._push(run.only(m), own, out)
        return pushed

    def _tape_width(self) -> int:
        return 6 * self.network.layers * self.network.hidden_size + self._features.shape[-1]

    def _groups(self, member: Member, rows: Tensor | None) -> Iterator[_Group]:
        size = max(1, min(_GROUP, _GROUP_FLOATS // (4 * self.network.hidden_size * self.network.days)))
        for first in range(0, len(member.gates), size):
            at = slice(first, first + size)
            gates, features = self._gates, self._features
            if features.shape[1] > 1:
                own = at if rows is None else rows[at]
                gates, features = gates[:, :, own], features[:, own]
            yield _Group(at, Member(*(part[at] for part in member)), gates, features)

    def _run(self, group: _Group) -> _Run:
        tapes: list[_Tape] = []
        drive, offset = group.gates, _planes(group.member.gates)
        for number, layer in enumerate(self._layers):
            if number:
                drive, offset = (
                    layer.gates_of(tapes[-1].hiddens[1:]),
                    _planes(self.network.biases[number - 1].expand(offset.shape[1], -1)),
                )
            tape = _start(group.member.hidden[:, number], group.member.cell[:, number], self.network.days)
            _call(_passes().forward_days, layer.transposed, drive, offset, *tape)
            tapes.append(tape)
        features = group.features
        if self.network.from_hidden is not None:
            features = tapes[-1].hiddens[1:] @ self.network.from_hidden.T + features + group.member.features
        return _Run(tapes, features)

    def _head(self, run: _Run) -> Tensor:
        """Return the outputs, (B, T, Z)."""
        inner = run.tapes[-1].hiddens[1:] if self.network.from_hidden is None else functional.silu(run.features)
        return functional.linear(inner, self.network.out_weight, self.network.out_bias).transpose(0, 1)

    def _pull(self, run: _Run, cotangent: Tensor) -> Member:
        d_above, d_features = cotangent @ self.network.out_weight, cotangent.new_zeros(cotangent.shape[1], 0)
        if self.network.from_hidden is not None:
            d_inner: Tensor = torch.ops.aten.silu_backward(d_above, run.features)
            d_above, d_features = d_inner @ self.network.from_hidden, d_inner.sum(0)
        d_hidden, d_cell = torch.zeros(2, len(self._layers), *d_above.shape[1:]).unbind()
        d_gates = torch.empty_like(run.tapes[0].gates)
        for number, (layer, tape) in reversed(list(enumerate(zip(self._layers, run.tapes, strict=True)))):
            state = d_hidden[number], d_cell[number]
            _call(_passes().backward_days, layer.own, tape.gates, tape.cells, d_above, *state, d_gates)
            if number:
                d_above = _rows(d_gates) @ layer.below
        return Member(_rows(d_gates.sum(0)), d_features, d_hidden.transpose(0, 1), d_cell.transpose(0, 1))

    def _push(self, run: _Run, tangents: Member, pushed: Tensor) -> None:
        """Push the tangents of one member, K rows each, and write those of its outputs (T, Z, K)."""
        entering = _planes(tangents.gates)[None]
        hidden, cell = (state.transpose(0, 1).clone(memory_format=torch.contiguous_format) for state in tangents[2:])
        size = max(1, _TANGENT_ROWS // len(tangents.gates))
        for first in range(0, self.network.days, size):
            last = min(first + size, self.network.days)
            drive = entering
            for number, (layer, tape) in enumerate(zip(self._layers, run.tapes, strict=True)):
                d_hiddens = torch.empty(last - first + 1, *cell[number].shape)
                d_hiddens[0] = hidden[number]
                days = tape.gates[first:last], tape.cells[first : last + 1]
                _call(_passes().tangent_days, layer.transposed, *days, drive, cell[number], d_hiddens)
                hidden[number] = d_hiddens[-1]
                if number + 1 < len(self._layers):
                    drive = self._layers[number + 1].gates_of(d_hiddens[1:])
            pushed[first:last] = self._push_head(run.features[first:last], d_hiddens[1:], tangents.features)

    def _push_head(self, features: Tensor, d_hiddens: Tensor, d_features: Tensor) -> Tensor:
        """Return the tangents of the outputs, (D, Z, K): weights meet slopes before they meet the many tangents."""
        if self.network.from_hidden is None:
            return (d_hiddens @ self.network.out_weight.T).transpose(1, 2)
        shape = len(features), *self.network.out_weight.shape
        inner: Tensor = torch.ops.aten.silu_backward(self.network.out_weight.expand(shape), features.expand(shape))
        pushed: Tensor = torch.baddbmm(inner @ d_features.T, inner @ self.network.from_hidden, d_hiddens.transpose(1, 2))
        return pushed


def _layer(network: FrozenLSTM, number: int) -> _Layer:
    size, weights = network.hidden_size, network.recurrent[number]
    own = weights[:, -size:].reshape(4, size, size).contiguous()
    return _Layer(own, own.transpose(1, 2).contiguous(), weights[:, :-size])


def _start(hidden: Tensor, cell: Tensor, days: int) -> _Tape:
    members, size = hidden.shape
    tape = _Tape(torch.empty(days, 4, members, size), *torch.empty(2, days + 1, members, size).unbind())
    tape.cells[0], tape.hiddens[0] = cell, hidden
    return tape


def _planes(rows: Tensor) -> Tensor:
    """Take gates from rows (..., B, 4 H) to planes (..., 4, B, H)."""
    apart: Tensor = rows.unflatten(-1, (4, -1))
    return apart.transpose(-3, -2).contiguous()


def _rows(planes: Tensor) -> Tensor:
    """Take gates from planes back to rows."""
    return planes.transpose(-3, -2).flatten(-2)


def _call(compiled: Callable[..., None], *tensors: Tensor) -> None:
    """Call a pass, which takes contiguous arrays; those that it fills are already."""
    compiled(*(tensor.detach().contiguous().numpy() for tensor in tensors))
