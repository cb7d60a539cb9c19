"""A network that runs an ONNX graph with torch, node by node, so that it can be differentiated, moved and widened like any other.

Runtimes for ONNX compute outputs alone; an inversion needs derivatives with respect to the static parameters. Here every operator
is torch's own, so reverse and forward mode, `.double()` and `.to(device)` work. Whatever does not depend on the inputs is computed
once, and values are dropped after their last use. Batch and days stay free: shapes are computed anew in every run, on the CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import SurrogateError
from ..weights import first_line
from .node import Graph, Node
from .operators import OPERATORS, run_node
from .recurrent import RECURRENT, STATES, WEIGHTS, build_recurrent
from .shapes import check_size

#: Elements of all that is computed before the first run: a small file may ask for any number.
_MOST_FOLDED = 1 << 28


class OnnxNetwork(nn.Module):
    """The part of a graph that leads to one output.

    Args:
        graph: The graph.
        inputs: Names of its inputs: static parameters (B, P), then forcing (B, T, F), which may come in parts.
        output: Name of the output, (B, T, V).

    Raises:
        SurrogateError: If the graph has an operator, an attribute or an input that is not known here.
    """

    path: Path
    """The file that the graph was read from."""
    inputs: tuple[str, ...]
    output: str
    _type: Tensor

    def __init__(self, graph: Graph, inputs: Sequence[str], output: str) -> None:
        super().__init__()
        self._graph = replace(graph, nodes=(), constants={})
        self.path, self.inputs, self.output = graph.path, tuple(inputs), output
        self.register_buffer("_type", torch.zeros(()), persistent=False)
        nodes, constants = _fold(graph)
        nodes = _leading_to(output, nodes)
        self.layers = nn.ModuleList()
        self._nodes = [self._prepare(node, constants) for node in nodes]
        self._unused = _last_uses(self._nodes, output)
        self._buffer_names: dict[str, str] = {}
        self._numbers: dict[str, Tensor] = {}
        self._keep(constants)

    def _prepare(self, node: Node, constants: Mapping[str, Tensor]) -> Node:
        """Check a node; build the layer of a recurrent one, which then needs its weights no more."""
        if node.op_type not in RECURRENT or node.domain:
            _check(node, self._graph)
            return node
        names = [node.inputs[place] if place < len(node.inputs) else "" for place in range(7)]
        for place in WEIGHTS:
            if names[place] and names[place] not in constants:
                raise self._graph.refuse(node, "has weights that depend on the inputs, which is not supported")
        with _naming(node, self._graph):
            self.layers.append(build_recurrent(node, [constants.get(names[place]) for place in WEIGHTS]))
        states = tuple(names[place] for place in STATES)
        return Node(node.op_type, states, node.outputs, {"layer": len(self.layers) - 1}, node.name)

    def _keep(self, constants: Mapping[str, Tensor]) -> None:
        """Keep the constants in use: floating ones as buffers, whole numbers beside them, for they speak of shapes."""
        used = dict.fromkeys([name for node in self._nodes for name in node.inputs] + [self.output])
        for name in used:
            if name not in constants:
                continue
            if constants[name].is_floating_point():
                self._buffer_names[name] = f"constant_{len(self._buffer_names)}"
                self.register_buffer(self._buffer_names[name], constants[name])
            else:
                self._numbers[name] = constants[name]

    def forward(self, static: Tensor, *forcing: Tensor) -> Tensor:
        """Run the graph.

        Args:
            static: Static parameters as the network takes them, (B, P).
            forcing: Forcing as the network takes it, (B, T, F), or its parts.

        Returns:
            The output of the graph, (B, T, V).
        """
        values: dict[str, Tensor] = dict(zip(self.inputs, (static, *forcing), strict=True))
        for node, unused in zip(self._nodes, self._unused, strict=True):
            inputs = [self._value(name, values) for name in node.inputs]
            outputs = zip(node.outputs, self._run(node, inputs), strict=False)
            values.update({name: value for name, value in outputs if name})
            for name in unused:
                values.pop(name, None)
        simulated = self._value(self.output, values)
        assert simulated is not None
        return simulated

    def _value(self, name: str, values: Mapping[str, Tensor]) -> Tensor | None:
        if name in values:
            return values[name]
        if name in self._buffer_names:
            return self.get_buffer(self._buffer_names[name])
        return self._numbers[name] if name else None

    def _run(self, node: Node, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        if node.op_type in RECURRENT:
            like = self._type
            outputs: tuple[Tensor, ...] = self.layers[node.attributes["layer"]](
                *(None if x is None else x.to(like) for x in inputs)
            )
            return outputs
        try:
            return run_node(node, inputs, self._type.dtype)
        except SurrogateError as error:
            raise self._graph.refuse(node, str(error)) from None
        except Exception as error:
            error.add_note(f"{self._graph.path}: {node}")
            raise


def _check(node: Node, graph: Graph) -> None:
    if node.domain:
        raise graph.refuse(node, f"belongs to domain {node.domain!r}, whose operators are not supported")
    if node.op_type not in OPERATORS:
        raise graph.refuse(node, "is not supported")
    fault = OPERATORS[node.op_type].fault(node)
    if fault is not None:
        raise graph.refuse(node, fault)


@contextmanager
def _naming(node: Node, graph: Graph) -> Iterator[None]:
    """Turn whatever is wrong with a node while the graph is built into one line that names it."""
    try:
        yield
    except SurrogateError as error:
        raise graph.refuse(node, str(error)) from None
    except Exception as error:
        raise graph.refuse(node, f"cannot be computed ({first_line(error)})") from error


def _fold(graph: Graph) -> tuple[list[Node], dict[str, Tensor]]:
    """Compute what depends on no input; return the other nodes, and all constants."""
    constants, computed = dict(graph.constants), 0
    nodes: list[Node] = []
    pending = deque(graph.nodes)
    while pending:
        node = pending.popleft()
        is_constant = all(name in constants for name in node.inputs if name)
        if is_constant and node.op_type == "If" and not node.domain:
            with _naming(node, graph):
                branch = _branch(node, constants)
                constants.update(branch.constants)
                pending.extendleft(reversed(branch.nodes))
        elif is_constant and node.op_type in OPERATORS and not node.domain:
            _check(node, graph)
            with _naming(node, graph):
                values = _compute(node, constants)
                computed += sum(value.numel() for value in values.values())
                check_size(computed, _MOST_FOLDED)
                constants.update(values)
        else:
            nodes.append(node)
    return nodes, constants


def _branch(node: Node, constants: Mapping[str, Tensor]) -> Graph:
    """Return the branch that an `If` takes, ending in the names that the `If` gives."""
    condition = constants[node.inputs[0]].item()
    branch: Graph = node.attributes["then_branch" if condition else "else_branch"]
    ends = [Node("Identity", (end,), (name,)) for end, name in zip(branch.outputs, node.outputs, strict=True)]
    return replace(branch, nodes=(*branch.nodes, *ends))


def _compute(node: Node, constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inputs = [constants[name] if name else None for name in node.inputs]
    return dict(zip(node.outputs, run_node(node, inputs, torch.get_default_dtype()), strict=False))


def _leading_to(output: str, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that an output depends on."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed.intersection(name for name in node.outputs if name):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _last_uses(nodes: Sequence[Node], output: str) -> list[list[str]]:
    """Return for each node the values that nobody uses after it."""
    seen, unused = {output, ""}, []
    for node in reversed(nodes):
        last = [name for name in dict.fromkeys((*node.inputs, *node.outputs)) if name not in seen]
        seen.update(last)
        unused.append(last)
    return unused[::-1]
