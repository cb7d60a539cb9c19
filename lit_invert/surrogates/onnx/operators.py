"""Every ONNX operator that this package computes, and how one node is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .elementwise import ELEMENTWISE
from .layers import LAYERS
from .node import Node, Operator
from .shapes import SHAPES

#: Operators by name, recurrent ones apart.
OPERATORS: Mapping[str, Operator] = {**ELEMENTWISE, **SHAPES, **LAYERS}


def run_node(node: Node, inputs: Sequence[Tensor | None], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Compute the outputs of a node.

    Args:
        node: A node whose operator is one of `OPERATORS`.
        inputs: Its inputs, None where one is left out.
        dtype: Precision of the network; every floating output has it, whatever the file says.

    Returns:
        Its outputs in order.

    Example:
        >>> gather = Node("Gather", ("shape", "place"), ("days",))
        >>> run_node(gather, [torch.tensor([4, 365, 3]), torch.tensor(1)], torch.float32)
        (tensor(365),)
    """
    operator = OPERATORS[node.op_type]
    attributes = dict(node.attributes)
    if node.op_type == "Split" and len(node.inputs) == 1:
        attributes.setdefault("num_outputs", len(node.outputs))
    results = operator.function(*_on_one_device(operator.arguments(inputs)), **attributes)
    outputs = (results,) if isinstance(results, Tensor) else tuple(results)
    return tuple(value.to(dtype) if value.is_floating_point() else value for value in outputs)


def _on_one_device(arguments: list[Any]) -> list[Any]:
    """Bring tensors together: shapes are computed on the CPU, and follow where they meet the network's own values."""
    devices = {value.device for value in arguments if isinstance(value, Tensor)}
    if len(devices) < 2:
        return arguments
    device = next(device for device in devices if device.type != "cpu")
    return [value.to(device) if isinstance(value, Tensor) else value for value in arguments]
