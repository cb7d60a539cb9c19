"""The C kernel behind the three passes: packing of weights, pointers, and nothing that computes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import KernelError, ShapeError
from .build import load_library
from .frozen import FrozenLSTM, Member, rows_of

Precision = Literal["float32", "bfloat16", "split"]

_PRECISIONS: dict[str, int] = {"float32": 0, "bfloat16": 1, "split": 2}
_MAX_LAYERS = 8
_MULTIPLE = 32  # hidden units and features are padded to this: a row of a matrix tile
_TAPE_BYTES = 1 << 27  # beyond this much, days are simulated again on the way back
_POINTER = ctypes.c_void_p


class _Weights(ctypes.Structure):
    _fields_ = (("f32", _POINTER), ("high", _POINTER), ("low", _POINTER))


class _Network(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.c_int32),
        ("hidden", ctypes.c_int32),
        ("features", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("forward", _Weights * _MAX_LAYERS),
        ("backward", _Weights * _MAX_LAYERS),
        ("bias", _POINTER * _MAX_LAYERS),
        ("from_hidden", _Weights),
        ("to_hidden", _Weights),
        ("out_weight", _POINTER),
        ("out_bias", _POINTER),
    )


class _Inputs(ctypes.Structure):
    _fields_ = (
        ("members", ctypes.c_int32),
        ("days", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("precision", ctypes.c_int32),
        ("forcing_gates", _POINTER),
        ("forcing_features", _POINTER),
        ("gates_stride", ctypes.c_int64),
        ("features_stride", ctypes.c_int64),
        ("member_gates", _POINTER),
        ("member_features", _POINTER),
        ("hidden", _POINTER),
        ("cell", _POINTER),
    )


@dataclass(frozen=True)
class _Kept:
    """What one simulation leaves for the passes after it."""

    tape: Tensor | None = None
    states: Tensor | None = None


def has_bfloat16() -> bool:
    """Say whether this processor multiplies bfloat16 numbers (AMX or AVX512-BF16).

    Raises:
        KernelError: If the kernel cannot be built.
    """
    return bool(load_library().lstm_bf16())


class NativeKernel:
    """The compiled kernel around one frozen network.

    Args:
        network: Weights, and the forcing's share.
        gradient: Arithmetic of `simulate` and `pull`.
        tangents: Arithmetic of `push`; the simulated outputs themselves are always float32 there. `split` takes three products of
            bfloat16 numbers for one of float32, with an error near that of float32.

    Raises:
        KernelError: If the kernel cannot be built, or the network is not one that it knows.
    """

    name = "native"

    def __init__(
        self, network: FrozenLSTM, gradient: Precision = "float32", tangents: Precision = "float32", threads: int = 1
    ) -> None:
        if network.layers > _MAX_LAYERS:
            raise KernelError(f"the network has {network.layers} layers, the compiled kernel takes {_MAX_LAYERS} at most.")
        for precision in (gradient, tangents):
            if precision != "float32" and not has_bfloat16():
                raise KernelError(f"this processor has no bfloat16 arithmetic, which {precision!r} needs. Use 'float32'.")
        self.network, self.gradient, self.tangents, self.threads = network, gradient, tangents, threads
        self._prepare()

    def _prepare(self) -> None:
        self._layout = _Layout(self.network)
        self._packed = _pack(self.network, self._layout)
        self._struct: _Network | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Pointers cannot follow into copies and other processes, nor can the packing, which is for this processor.
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def first(self, days: int) -> NativeKernel:
        """Return the same for the first days alone, sharing memory."""
        shorter = object.__new__(type(self))
        shorter.__dict__.update(self.__dict__, network=self.network.first(days))
        forcing = {name: self._packed[name][:, :days] for name in ("forcing_gates", "forcing_features")}
        shorter._packed = {**self._packed, **forcing}
        return shorter

    def simulate(self, member: Member, rows: Tensor | None) -> tuple[Tensor, object]:
        """Return the outputs (B, T, Z), and the tape, or the states from which it can be made again."""
        inputs, alive = self._inputs(member, rows, self.gradient)
        z = _room(len(member.gates), self.network.days, len(self.network.out_bias))
        kept = self._keep(len(z))
        if len(z):
            load_library().lstm_simulate(self._pointer(), ctypes.byref(inputs), _at(z), _at(kept.states), _at(kept.tape))
        del alive
        return z, kept

    def _keep(self, members: int) -> _Kept:
        days = self.network.days
        width = 6 * self.network.layers * self._layout.hidden + self._layout.features
        if members * days * width * 4 <= _TAPE_BYTES:
            return _Kept(tape=_room(members, days, width))
        chunks = -(-days // load_library().lstm_chunk())
        return _Kept(states=_room(members, chunks, 2, self.network.layers, self._layout.hidden))

    def pull(self, member: Member, rows: Tensor | None, kept: Any, cotangent: Tensor) -> Member:
        """Return the gradient with respect to what the members bring."""
        inputs, alive = self._inputs(member, rows, self.gradient)
        members, layout = len(member.gates), self._layout
        cotangent = cotangent.contiguous()
        gates, features = _room(members, 4 * layout.hidden), _room(members, layout.features)
        hidden, cell = (_room(members, self.network.layers, layout.hidden) for _ in range(2))
        if members:
            load_library().lstm_pull(
                self._pointer(),
                ctypes.byref(inputs),
                _at(kept.states),
                _at(kept.tape),
                _at(cotangent),
                *map(_at, (gates, features, hidden, cell)),
            )
        del alive
        return layout.unpack(Member(gates, features, hidden, cell))

    def push(self, member: Member, rows: Tensor | None, tangents: Member, kept: Any) -> Tensor:
        """Return the tangents of the outputs, (B, T, Z, K)."""
        inputs, alive = self._inputs(member, rows, self.tangents)
        packed = self._layout.pack(tangents)
        members, directions = tangents.gates.shape[:2]
        pushed = _room(members, self.network.days, len(self.network.out_bias), directions)
        if pushed.numel():
            load_library().lstm_push(
                self._pointer(), ctypes.byref(inputs), _at(kept.tape), directions, *map(_at, packed), _at(pushed)
            )
        del alive
        return pushed

    def _inputs(self, member: Member, rows: Tensor | None, precision: Precision) -> tuple[_Inputs, object]:
        """Return the pointers, and what must stay alive while they are used."""
        gates, features = self._packed["forcing_gates"], self._packed["forcing_features"]
        gates, features = rows_of(gates, rows), rows_of(features, rows)
        packed = self._layout.pack(member)
        own = len(gates) > 1
        if own and len(gates) != len(packed.gates):
            raise ShapeError(
                f"forcing has {len(gates)} rows for {len(packed.gates)} members; say which row belongs to each, or give one."
            )
        inputs = _Inputs(
            len(packed.gates),
            self.network.days,
            self.threads,
            _PRECISIONS[precision],
            _at(gates),
            _at(features),
            gates.stride(0) if own else 0,
            features.stride(0) if own else 0,
            *map(_at, packed),
        )
        return inputs, (gates, features, packed)

    def _pointer(self) -> Any:
        if self._struct is None:
            self._struct = self._build_struct()
        return ctypes.byref(self._struct)

    def _build_struct(self) -> _Network:
        packed, layout = self._packed, self._layout
        struct = _Network(self.network.layers, layout.hidden, layout.features, len(self.network.out_bias))
        for layer in range(self.network.layers):
            struct.forward[layer] = _weights(packed, f"forward{layer}")
            struct.backward[layer] = _weights(packed, f"backward{layer}")
            if layer:
                struct.bias[layer] = _at(packed[f"bias{layer}"])
        if layout.features:
            struct.from_hidden = _weights(packed, "from_hidden")
            struct.to_hidden = _weights(packed, "to_hidden")
        struct.out_weight, struct.out_bias = _at(packed["out_weight"]), _at(packed["out_bias"])
        return struct


class _Layout:
    """The order and padding of numbers in the kernel: the four gates of a vector of hidden units stand side by side."""

    def __init__(self, network: FrozenLSTM) -> None:
        self.vector = int(load_library().lstm_vector())
        self.true_hidden = network.hidden_size
        self.true_features = network.forcing_features.shape[-1]
        self.hidden = _padded(self.true_hidden)
        self.features = _padded(self.true_features)

    def gates(self, values: Tensor) -> Tensor:
        """Take (..., 4 H) from PyTorch's order to the kernel's."""
        apart = _pad(values.reshape(*values.shape[:-1], 4, self.true_hidden), self.hidden)
        packed: Tensor = apart.unflatten(-1, (-1, self.vector)).transpose(-3, -2).flatten(-3)
        return packed.contiguous()

    def pack(self, member: Member) -> Member:
        """Take what members bring to the kernel's layout."""
        return Member(
            self.gates(member.gates),
            _pad(member.features, self.features).contiguous(),
            _pad(member.hidden, self.hidden).contiguous(),
            _pad(member.cell, self.hidden).contiguous(),
        )

    def unpack(self, member: Member) -> Member:
        """Come back from the kernel's layout."""
        gates = member.gates.unflatten(-1, (-1, 4, self.vector)).transpose(-3, -2).flatten(-2)
        return Member(
            gates[..., : self.true_hidden].flatten(-2),
            member.features[..., : self.true_features],
            member.hidden[..., : self.true_hidden],
            member.cell[..., : self.true_hidden],
        )

    def columns(self, weights: Tensor) -> Tensor:
        """Pad the columns of recurrent weights (R, H or 2 H), state by state."""
        states = weights.reshape(len(weights), -1, self.true_hidden)
        return _pad(states, self.hidden).flatten(1)


def _pack(network: FrozenLSTM, layout: _Layout) -> dict[str, Tensor]:
    packed: dict[str, Tensor] = {}
    for layer, weights in enumerate(network.recurrent):
        gates = layout.gates(layout.columns(weights).T).T
        packed |= _panels(f"forward{layer}", gates, layout.vector) | _panels(f"backward{layer}", gates.T, layout.vector)
    for layer, bias in enumerate(network.biases, start=1):
        packed[f"bias{layer}"] = layout.gates(bias)
    inner = layout.hidden
    if network.from_hidden is not None:
        padded = _pad(_pad(network.from_hidden, layout.hidden).T, layout.features).T
        packed |= _panels("from_hidden", padded, layout.vector) | _panels("to_hidden", padded.T, layout.vector)
        inner = layout.features
    packed["out_weight"] = _pad(network.out_weight, inner).contiguous()
    packed["out_bias"] = network.out_bias.contiguous()
    packed["forcing_gates"] = layout.gates(network.forcing_gates)
    packed["forcing_features"] = _pad(network.forcing_features, layout.features).contiguous()
    return packed


def _panels(name: str, matrix: Tensor, vector: int) -> dict[str, Tensor]:
    """Cut a matrix (R, K) into panels of 4 vectors of rows, in float32 and as two bfloat16 numbers whose sum is nearly that."""
    rows = 4 * vector
    padded = functional.pad(matrix, (0, 0, 0, -len(matrix) % rows))
    inner = padded.shape[1]
    high = padded.bfloat16()
    low = (padded - high.float()).bfloat16()
    pairs = (-1, 4, vector, inner // 2, 2)
    return {
        name: padded.reshape(-1, rows, inner).transpose(1, 2).contiguous(),
        f"{name}_high": high.reshape(pairs).transpose(2, 3).contiguous(),
        f"{name}_low": low.reshape(pairs).transpose(2, 3).contiguous(),
    }


def _weights(packed: dict[str, Tensor], name: str) -> _Weights:
    return _Weights(_at(packed[name]), _at(packed[f"{name}_high"]), _at(packed[f"{name}_low"]))


def _padded(count: int) -> int:
    return -(-count // _MULTIPLE) * _MULTIPLE


def _pad(values: Tensor, width: int) -> Tensor:
    return functional.pad(values, (0, width - values.shape[-1])) if values.shape[-1] != width else values


def _room(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _at(tensor: Tensor | None) -> int | None:
    """Return the address of what C will read."""
    if tensor is None:
        return None
    assert tensor.dtype in (torch.float32, torch.bfloat16)
    assert tensor.device.type == "cpu"
    assert tensor.is_contiguous() or tensor.dim() == 3  # forcing cut to its first days
    return tensor.data_ptr()
