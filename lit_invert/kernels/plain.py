r"""The kernel of plain PyTorch: a handful of operations a day, for the members of a group and all their tangents together.

It needs no compiler. Its gain is in the tangents, which are linear in known slopes and cost a row of each day's product,

.. math::
    \dot a_t = \dot d_t + \dot h_{t-1} W^\top, \quad
    \dot c_t = f_t\, \dot c_{t-1} + \sum_{k \in \{i, f, g\}} \frac{\partial c_t}{\partial a_{k,t}}\, \dot a_{k,t}, \quad
    \dot h_t = \frac{\partial h_t}{\partial a_{o,t}}\, \dot a_{o,t} + \frac{\partial h_t}{\partial c_t}\, \dot c_t

where :math:`a` are the gates before their nonlinearities and :math:`d` what they owe to anything but the layer's own state. Slopes
and head are computed for many days at once. Within a day results are written in place, since it is short enough for allocations to
count, and few tangents are taken at a time, so that their gates stay in the second cache. To simulate and to pull a gradient back,
nn.LSTM is faster: here the one makes the tape that tangents need, and the other is what tangents are compared with.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .frozen import FrozenLSTM, Member, rows_of

_GROUP = 32  # members; more at once are no faster
_GROUP_BYTES = 1 << 26  # a group's tape
_TAPE_BYTES = 1 << 29  # beyond this much, groups are simulated again for their derivatives
_TANGENTS = 288  # at once: with what drives them, their gates fill the second cache
_TANGENT_ROWS = 1 << 12  # tangents times days whose hidden states are held at once


class _Tape(NamedTuple):
    """What a layer did: gates (T, B, 4 H), and its states before and after each day (T + 1, B, H)."""

    gates: Tensor
    cells: Tensor
    hiddens: Tensor

    def between(self, first: int, last: int) -> _Tape:
        """Return some of the days."""
        return _Tape(self.gates[first:last], self.cells[first : last + 1], self.hiddens[first : last + 1])


class _Run(NamedTuple):
    """A simulated group: the tape of each layer, and the features before their nonlinearity, (T, B, G)."""

    tapes: list[_Tape]
    features: Tensor

    def only(self, members: slice) -> _Run:
        """Return the same for some of the members."""
        return _Run([_Tape(*(part[:, members] for part in tape)) for tape in self.tapes], self.features[:, members])


class _Slopes(NamedTuple):
    """How the days of a layer answer to their gates, before the nonlinearities, and to the state before."""

    gates: Tensor
    """Change of the cell with i, f and g, and of the hidden state with o, (T, B, 4 H)."""
    forget: Tensor
    """Change of the cell with that of the day before, (T, B, H)."""
    cell: Tensor
    """Change of the hidden state with the cell, (T, B, H)."""


@dataclass(frozen=True)
class _Group:
    """Members that run together, with the rows of their forcing."""

    at: slice
    member: Member
    rows: Tensor


class PlainKernel:
    """The three passes around one frozen network, in operations of PyTorch.

    Args:
        network: Weights, and the forcing's share.
    """

    name = "torch"

    def __init__(self, network: FrozenLSTM) -> None:
        self.network = network
        size = network.hidden_size
        self._own = [weights[:, -size:].contiguous() for weights in network.recurrent]
        self._below = [weights[:, :-size] for weights in network.recurrent]

    def first(self, days: int) -> PlainKernel:
        """Return the same for the first days alone, sharing memory."""
        shorter = copy.copy(self)
        shorter.network = self.network.first(days)
        return shorter

    @torch.no_grad()
    def simulate(self, member: Member, rows: Tensor | None) -> tuple[Tensor, object]:
        """Return the outputs (B, T, Z), and the runs of the groups, or None where they would take too much memory."""
        z = member.gates.new_empty(len(member.gates), self.network.days, len(self.network.out_bias))
        keep = len(z) * self._tape_bytes() <= _TAPE_BYTES
        kept = []
        for group in self._groups(member, rows):
            run = self._run(group)
            z[group.at] = self._head(run)
            if keep:
                kept.append(run)
        return z, kept if keep else None

    @torch.no_grad()
    def pull(self, member: Member, rows: Tensor | None, kept: Any, cotangent: Tensor) -> Member:
        """Return the gradient with respect to what the members bring."""
        pulled = []
        for number, group in enumerate(self._groups(member, rows)):
            run = self._run(group) if kept is None else kept[number]
            pulled.append(self._pull(run, cotangent[group.at].transpose(0, 1)))
        return Member(*map(torch.cat, zip(*pulled, strict=True)))

    @torch.no_grad()
    def push(self, member: Member, rows: Tensor | None, tangents: Member, kept: Any) -> Tensor:
        """Return the tangents of the outputs, (B, T, Z, K)."""
        members, directions = tangents.gates.shape[:2]
        pushed = member.gates.new_empty(members, self.network.days, len(self.network.out_bias), directions)
        size = max(1, _TANGENTS // max(1, directions))
        for number, group in enumerate(self._groups(member, rows)):
            run = self._run(group) if kept is None else kept[number]
            for first in range(0, len(group.rows), size):
                some = slice(first, first + size)
                own = Member(*(part[group.at][some] for part in tangents))
                self._push(run.only(some), own, pushed[group.at][some])
        return pushed

    def _tape_bytes(self) -> int:
        """Return what a member's tape takes."""
        features = self.network.forcing_features
        a_day = 6 * self.network.layers * self.network.hidden_size + features.shape[-1]
        return features.element_size() * self.network.days * a_day

    def _groups(self, member: Member, rows: Tensor | None) -> Iterator[_Group]:
        members = len(member.gates)
        size = max(1, min(_GROUP, _GROUP_BYTES // self._tape_bytes()))
        rows = torch.arange(members) if rows is None else rows
        for first in range(0, members, size):
            at = slice(first, first + size)
            yield _Group(at, Member(*(part[at] for part in member)), rows[at])

    def _run(self, group: _Group) -> _Run:
        network, member = self.network, group.member
        tapes: list[_Tape] = []
        drive = (rows_of(network.forcing_gates, group.rows).transpose(0, 1) + member.gates).contiguous()
        for number, own in enumerate(self._own):
            if number:
                drive = functional.linear(tapes[-1].hiddens[1:], self._below[number], network.biases[number - 1])
            tapes.append(_simulate_days(own, drive, member.hidden[:, number], member.cell[:, number]))
        features = rows_of(network.forcing_features, group.rows).transpose(0, 1)
        if network.from_hidden is not None:
            features = functional.linear(tapes[-1].hiddens[1:], network.from_hidden).add_(features).add_(member.features)
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
        d_states = []
        for own, below, tape in reversed(list(zip(self._own, self._below, run.tapes, strict=True))):
            d_gates, *d_state = _pull_days(own, _slopes(tape), d_above)
            d_states.append(d_state)
            d_above = d_gates @ below
        d_hidden, d_cell = (torch.stack(states[::-1], dim=1) for states in zip(*d_states, strict=True))
        return Member(d_gates.sum(0), d_features, d_hidden, d_cell)

    def _push(self, run: _Run, tangents: Member, pushed: Tensor) -> None:
        """Push the tangents of some members, (B, K, ...), and write those of their outputs (B, T, Z, K)."""
        hidden, cell = list(tangents.hidden.unbind(2)), list(tangents.cell.clone().unbind(2))
        entering = tangents.gates.flatten(0, 1)
        size = max(1, _TANGENT_ROWS // max(1, len(entering)))
        for first in range(0, self.network.days, size):
            last = min(first + size, self.network.days)
            drive = entering.expand(last - first, -1, -1)
            for number, (own, tape) in enumerate(zip(self._own, run.tapes, strict=True)):
                d_hiddens = _push_days(own, _slopes(tape.between(first, last)), drive, hidden[number], cell[number])
                hidden[number] = d_hiddens[-1]
                if number + 1 < len(self._own):
                    drive = d_hiddens.flatten(1, 2) @ self._below[number + 1].T
            features = run.features[first:last]
            pushed[:, first:last] = self._push_head(features, d_hiddens, tangents.features).transpose(0, 1)

    def _push_head(self, features: Tensor, d_hiddens: Tensor, d_features: Tensor) -> Tensor:
        """Return the tangents of the outputs, (D, B, Z, K): weights meet slopes before they meet the many tangents."""
        if self.network.from_hidden is None:
            return self.network.out_weight @ d_hiddens.mT
        shape = *features.shape[:2], *self.network.out_weight.shape
        inner: Tensor = torch.ops.aten.silu_backward(self.network.out_weight.expand(shape), features[:, :, None].expand(shape))
        pushed: Tensor = (inner @ self.network.from_hidden) @ d_hiddens.mT
        return pushed.add_(torch.einsum("dbzg,bkg->dbzk", inner, d_features))


def _simulate_days(own: Tensor, drive: Tensor, hidden: Tensor, cell: Tensor) -> _Tape:
    """Run a layer over T days; `drive`, (T, B, 4 H), is all of its gates but the share of its own state, and becomes the gates."""
    cells, hiddens = drive.new_empty(2, len(drive) + 1, *cell.shape).unbind()
    cells[0], hiddens[0] = cell, hidden
    i_and_f, g, o = _days_of(*drive.split([2 * cell.shape[-1], cell.shape[-1], cell.shape[-1]], dim=-1))
    i, f = _days_of(*drive.chunk(4, dim=-1)[:2])
    gates, c, h = _days_of(drive, cells, hiddens)
    weights = own.T.contiguous()  # of one row, the product is twice as fast
    for t in range(len(gates)):
        gates[t].addmm_(h[t], weights)
        i_and_f[t].sigmoid_()
        g[t].tanh_()
        o[t].sigmoid_()
        torch.mul(f[t], c[t], out=c[t + 1]).addcmul_(i[t], g[t])
        torch.tanh(c[t + 1], out=h[t + 1]).mul_(o[t])
    return _Tape(drive, cells, hiddens)


def _slopes(tape: _Tape) -> _Slopes:
    """Differentiate a layer's days."""
    i, f, g, o = tape.gates.chunk(4, dim=-1)
    squashed = tape.cells[1:].tanh()
    gates = [g * i * (1 - i), tape.cells[:-1] * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o)]
    return _Slopes(torch.cat(gates, dim=-1), f, o * (1 - squashed * squashed))


def _pull_days(own: Tensor, slopes: _Slopes, d_above: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pull a gradient back over T days.

    Args:
        own: Weights of the layer's own state, (4 H, H).
        slopes: Of the T days.
        d_above: Gradient of the hidden states as the layer above or the head sees them, (T, B, H).

    Returns:
        The gradients of the gates, (T, B, 4 H), and of the hidden and the cell state before the first day, (B, H) each.
    """
    size = own.shape[1]
    d_hidden, d_cell = d_above.new_zeros(2, *d_above.shape[1:]).unbind()
    all_gates = torch.empty_like(slopes.gates)
    (to_cell, to_hidden), (of_cell, of_hidden) = (
        _days_of(part[..., : 3 * size].unflatten(-1, (3, size)), part[..., 3 * size :]) for part in (slopes.gates, all_gates)
    )
    d_gates, above, forget, cell = _days_of(all_gates, d_above, slopes.forget, slopes.cell)
    d_every_cell = d_cell[:, None]
    for t in reversed(range(len(d_gates))):
        d_hidden.add_(above[t])
        d_cell.addcmul_(d_hidden, cell[t])
        torch.mul(d_every_cell, to_cell[t], out=of_cell[t])
        torch.mul(d_hidden, to_hidden[t], out=of_hidden[t])
        d_cell.mul_(forget[t])
        torch.mm(d_gates[t], own, out=d_hidden)
    return all_gates, d_hidden, d_cell


def _push_days(own: Tensor, slopes: _Slopes, drive: Tensor, d_hidden: Tensor, d_cell: Tensor) -> Tensor:
    """Push K tangents of B members forward over D days.

    Args:
        own: Weights of the layer's own state, (4 H, H).
        slopes: Of the D days.
        drive: Tangents of the gates but the share of the layer's own state, (D, B K, 4 H).
        d_hidden: Tangents of the hidden state before the first day, (B, K, H).
        d_cell: The same of the cell state; becomes that after the last.

    Returns:
        The tangents of the hidden states, (D, B, K, H).
    """
    d_hiddens, d_gates = drive.new_empty(len(drive), *d_cell.shape), drive.new_empty(*d_cell.shape[:2], len(own))
    weights, d_rows = own.T, d_gates.flatten(0, 1)
    d_i, d_f, d_g, d_o = d_gates.chunk(4, dim=-1)
    i, f, g, o = _days_of(*slopes.gates[:, :, None].chunk(4, dim=-1))
    forget, cell, drives, after, rows = _days_of(
        slopes.forget[:, :, None], slopes.cell[:, :, None], drive, d_hiddens, d_hiddens.flatten(1, 2)
    )
    before = d_hidden.flatten(0, 1)
    for t in range(len(drive)):
        torch.addmm(drives[t], before, weights, out=d_rows)
        d_cell.mul_(forget[t]).addcmul_(d_i, i[t]).addcmul_(d_f, f[t]).addcmul_(d_g, g[t])
        torch.mul(d_o, o[t], out=after[t]).addcmul_(d_cell, cell[t])
        before = rows[t]
    return d_hiddens


def _days_of(*each: Tensor) -> list[tuple[Tensor, ...]]:
    """Return the days of each: to unbind them at once is faster than to ask for one after the other."""
    return [part.unbind() for part in each]
