"""ONNX's recurrent operators as torch's recurrent layers, with the gates put in torch's order.

ONNX stacks the gates of an LSTM as input, output, forget, cell and those of a GRU as update, reset, hidden; torch has input,
forget, cell, output and reset, update, hidden. Being layers of torch, they run in cuDNN on a GPU, and whoever looks for recurrent
layers finds them. A GRU that resets the state *before* its product (`linear_before_reset` 0) has no layer in torch: it runs day
by day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import SurrogateError
from .node import Node

#: Place in ONNX's stack of each gate, in torch's order.
_GATES: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_LAYERS: Mapping[str, Callable[..., nn.RNNBase]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
_ACTIVATIONS: Mapping[str, list[str]] = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_ATTRIBUTES = ("activations", "direction", "hidden_size", "layout", "input_forget", "linear_before_reset")
#: Recurrent operators.
RECURRENT: tuple[str, ...] = tuple(_GATES)
#: Inputs that must be constants: weights, recurrent weights, biases.
WEIGHTS = (1, 2, 3)
#: Inputs that are given day by day or member by member: the sequence, and the states before its first day.
STATES = (0, 5, 6)


def build_recurrent(node: Node, weights: list[Tensor | None]) -> nn.Module:
    """Build the layer of a recurrent node.

    Args:
        node: An `LSTM`, `GRU` or `RNN` of one layer and one or two directions.
        weights: W (D, G H, I), R (D, G H, H) and, if any, B (D, 2 G H), for D directions and G gates in ONNX's order.

    Returns:
        A module `(x (T, B, I), hidden (D, B, H), cell (D, B, H)) -> (y (T, D, B, H), hidden, cell)`.

    Raises:
        SurrogateError: If the node asks for what torch's layers cannot do.
    """
    _check_attributes(node)
    inputs, recurrent, biases = weights
    if inputs is None or recurrent is None:
        raise SurrogateError("has no weights")
    if biases is None:
        biases = inputs.new_zeros(inputs.shape[0], 2 * inputs.shape[1])
    ordered = [_reorder(value, node.op_type) for value in (inputs, recurrent, *biases.chunk(2, dim=1))]
    if node.op_type == "GRU" and not node.attributes.get("linear_before_reset", 0):
        if _direction(node) == "bidirectional":
            raise SurrogateError("is bidirectional with `linear_before_reset` 0, which is not supported")
        return RecurrentNode(ResetFirstGRU(*(value[0] for value in ordered)), _direction(node) == "reverse")
    return RecurrentNode(_layer(node, ordered), _direction(node) == "reverse")


def _layer(node: Node, ordered: list[Tensor]) -> nn.RNNBase:
    directions, _, width = ordered[0].shape
    arguments: dict[str, Any] = {"bidirectional": directions == 2, "dtype": ordered[0].dtype}
    if node.op_type == "RNN":
        arguments["nonlinearity"] = node.attributes.get("activations", ["Tanh"])[0].lower()
    layer = _LAYERS[node.op_type](width, ordered[1].shape[2], **arguments)
    state = {}
    for name, value in zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), ordered, strict=True):
        state.update({name + suffix: part for suffix, part in zip(("", "_reverse"), value, strict=False)})
    layer.load_state_dict(state)
    return layer


def _reorder(stacked: Tensor, op_type: str) -> Tensor:
    """Put gates, stacked along axis 1, in torch's order."""
    gates = stacked.chunk(len(_GATES[op_type]), dim=1)
    return torch.cat([gates[place] for place in _GATES[op_type]], dim=1)


def _direction(node: Node) -> str:
    return str(node.attributes.get("direction", "forward"))


def _check_attributes(node: Node) -> None:
    for key in node.attributes:
        if key not in _ATTRIBUTES:
            raise SurrogateError(f"has attribute {key!r}, which is not supported")
    for place, name in enumerate(node.inputs):
        if name and place not in (*WEIGHTS, *STATES):
            raise SurrogateError(f"has {'lengths of its sequences' if place == 4 else 'peepholes'}, which is not supported")
    for key in ("layout", "input_forget"):
        if node.attributes.get(key, 0):
            raise SurrogateError(f"has {key} {node.attributes[key]}, which is not supported")
    usual = _ACTIVATIONS[node.op_type]
    found = node.attributes.get("activations", usual)
    allowed = [["Tanh"], ["Relu"]] if node.op_type == "RNN" else [usual]
    if not any(found in (one, one * 2) for one in allowed):
        raise SurrogateError(f"has activations {', '.join(found)}, expected {', '.join(usual)}")


class RecurrentNode(nn.Module):
    """A recurrent layer with the inputs and outputs of its ONNX operator.

    Args:
        layer: One of torch's, time first.
        is_reverse: Whether it runs from the last day to the first.
    """

    def __init__(self, layer: nn.Module, is_reverse: bool) -> None:
        super().__init__()
        self.layer, self.is_reverse = layer, is_reverse

    def forward(self, x: Tensor, hidden: Tensor | None = None, cell: Tensor | None = None) -> tuple[Tensor, ...]:
        """Run through time: x (T, B, I) to y (T, D, B, H) and the last states, each (D, B, H)."""
        state = _contiguous(hidden, cell, isinstance(self.layer, nn.LSTM))
        y, last = self.layer(x.flip(0) if self.is_reverse else x, state)
        y = y.flip(0) if self.is_reverse else y
        hidden = last[0] if isinstance(last, tuple) else last
        y = y.unflatten(2, (len(hidden), -1)).transpose(1, 2)
        return (y, *last) if isinstance(last, tuple) else (y, last)


def _contiguous(hidden: Tensor | None, cell: Tensor | None, has_cell: bool) -> Any:
    """Return the state as torch's layers take it; cuDNN wants it in one piece."""
    given = [state for state in (hidden, cell) if state is not None]
    if not given:
        return None
    if not has_cell:
        return given[0].contiguous()
    return tuple(torch.zeros_like(given[0]) if state is None else state.contiguous() for state in (hidden, cell))


class ResetFirstGRU(nn.Module):
    r"""A GRU that resets the state before the product.

    .. math:: n_t = \tanh(W_n x_t + R_n (r_t \odot h_{t-1}) + b_n)

    Args:
        inputs: Weights of the input, (3 H, I), gates in torch's order.
        recurrent: Weights of the state, (3 H, H).
        input_bias: Bias of the input, (3 H,).
        recurrent_bias: Bias of the state, (3 H,).
    """

    inputs: Tensor
    recurrent: Tensor
    bias: Tensor

    def __init__(self, inputs: Tensor, recurrent: Tensor, input_bias: Tensor, recurrent_bias: Tensor) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("recurrent", recurrent), ("bias", input_bias + recurrent_bias)):
            self.register_buffer(name, value)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run through time: x (T, B, I) to y (T, B, H) and the last state (1, B, H)."""
        size = self.recurrent.shape[1]
        hidden = x.new_zeros(x.shape[1], size) if state is None else state[0]
        of_gates, of_state = self.recurrent.split([2 * size, size])
        days = []
        for gates, candidate in zip(*(x @ self.inputs.T + self.bias).split([2 * size, size], dim=2), strict=True):
            reset, update = torch.sigmoid(gates + hidden @ of_gates.T).chunk(2, dim=1)
            new = torch.tanh(candidate + (reset * hidden) @ of_state.T)
            hidden = new + update * (hidden - new)
            days.append(hidden)
        return torch.stack(days), hidden[None]
