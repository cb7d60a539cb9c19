"""What an ONNX graph consists of once it has been read: nodes, constants, and the rules of an operator.

Nothing here knows the `onnx` package; :mod:`~lit_invert.surrogates.onnx.file` reads files into these, and
:mod:`~lit_invert.surrogates.onnx.network` runs them with torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import SurrogateError


@dataclass(frozen=True)
class Node:
    """One operation of a graph; inputs and outputs are names of values, empty where one is left out."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""

    def __str__(self) -> str:
        operator = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        return f"operator {operator!r} of node {self.name or next(filter(None, self.outputs), '')!r}"


@dataclass(frozen=True)
class Graph:
    """Nodes in the order in which they run, and what they start from."""

    path: Path
    """The file, for errors."""
    opset: int
    """Version of the standard operators."""
    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    """Values that the file holds, weights above all."""
    inputs: Mapping[str, tuple[int | None, ...]]
    """Shape of each input by its name; None is a dimension of any size."""
    outputs: tuple[str, ...]

    def refuse(self, node: Node, fault: str) -> SurrogateError:
        """Return the error that names the file, the node and the ways out."""
        return SurrogateError(
            f"{self.path}: {node} (opset {self.opset}) {fault}. Export the network with other operations, "
            "or bring it as a class (loader: import) or as an archive (loader: torchscript or export)."
        )


@dataclass(frozen=True)
class Operator:
    """How torch computes an ONNX operator.

    Args:
        function: Takes the inputs by position and the attributes by keyword, returns a tensor or several.
        numbers: Names of the inputs that say how, not what, such as a shape or axes; they arrive as plain numbers.
        scalars: Names of such inputs that are one number, which files also hold as a list of one.
        outputs: How many outputs it gives; None for any number.
    """

    function: Callable[..., Any]
    numbers: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    outputs: int | None = 1

    def fault(self, node: Node) -> str | None:
        """Say what of a node this does not know: an attribute, an input or an output; None if it knows all."""
        names, attributes, takes_any = _parameters(self.function)
        for key in node.attributes:
            if key not in attributes and key not in self.numbers:
                return f"has attribute {key!r}, which is not supported"
        used = [place for place, name in enumerate(node.inputs) if name]
        if names and not takes_any and used and used[-1] >= len(names):
            return f"has {used[-1] + 1} inputs, of which {len(names)} are supported"
        given = [place for place, name in enumerate(node.outputs) if name]
        if self.outputs is not None and given and given[-1] >= self.outputs:
            return f"has {given[-1] + 1} outputs, of which {self.outputs} is supported"
        return None

    def arguments(self, inputs: Sequence[Tensor | None]) -> list[Any]:
        """Return the inputs with those of `numbers` and `scalars` as plain numbers."""
        names = _parameters(self.function)[0] if self.numbers or self.scalars else ()
        values: list[Any] = list(inputs)
        for place, name in enumerate(names[: len(values)]):
            if name in self.numbers and values[place] is not None:
                values[place] = values[place].tolist()
            elif name in self.scalars and values[place] is not None:
                values[place] = values[place].reshape(()).item()
        return values


@cache
def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return the names of inputs and of attributes, and whether any number of inputs is taken; torch's own have no names."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return (), (), True
    inputs = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    attributes = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    return inputs, attributes, any(p.kind is p.VAR_POSITIONAL for p in parameters)
