"""Reading an ONNX file into a :class:`~lit_invert.surrogates.onnx.node.Graph`: this is all that touches the `onnx` package.

A file is data: protobuf messages that name operators and hold tensors. Opening one runs nothing. Yet it may name other files for
its weights, so each of those must lie beside it before anything is read from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...errors import SurrogateError
from ..weights import damaged, resolve
from .node import Graph, Node

if TYPE_CHECKING:
    import onnx

#: Oldest opset whose operators mean what ours do; torch has exported 17 and later for years.
OLDEST_OPSET = 13
_STANDARD = ("", "ai.onnx")
_MOST_NODES = 100_000


def read_graph(path: Path, is_hashed: bool = False) -> Graph:
    """Read, check and decode an ONNX file; its local functions are put in place of their calls.

    Args:
        path: The file; weights kept apart from it must lie in the same folder.
        is_hashed: Whether somebody stated the file's hash, which says nothing of weights kept apart: there may then be none.

    Returns:
        The graph, floating constants in torch's default precision.

    Raises:
        SurrogateError: If the `onnx` package is absent, or the file is damaged, too old, or names files elsewhere.
    """
    model = _load(path, is_hashed)
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), 0)
    if opset < OLDEST_OPSET:
        raise SurrogateError(
            f"{path}: uses opset {opset} of ONNX, expected {OLDEST_OPSET} or later. Export it again with `opset_version=18`."
        )
    try:
        return _graph(model.graph, path, opset)
    except SurrogateError:
        raise
    except Exception as error:
        raise damaged(path, "an ONNX model", error) from error


def _load(path: Path, is_hashed: bool) -> onnx.ModelProto:
    try:
        import onnx
        import onnx.checker
        import onnx.inliner
    except ImportError as error:
        raise SurrogateError(f'{path}: reading ONNX needs the `onnx` package. Run: pip install "lit-invert[onnx]"') from error
    try:
        model = onnx.load(path, load_external_data=False)
        for tensor in _tensors(model):
            _check_place(tensor, path, is_hashed)
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
        _check_functions(model, path)
        return onnx.inliner.inline_local_functions(model)
    except SurrogateError:
        raise
    except Exception as error:
        raise damaged(path, "an ONNX model", error) from error


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Walk over every tensor of a model, those of attributes, functions and branches included."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)


def _check_place(tensor: onnx.TensorProto, path: Path, is_hashed: bool) -> None:
    """Refuse a tensor that is kept in a file which is not beside the model, or which a hash should cover."""
    if tensor.data_location != tensor.EXTERNAL:
        return
    if is_hashed:
        raise SurrogateError(
            f"{path}: keeps tensor {tensor.name!r} in another file, which `sha256` does not cover. "
            "Export it again with `external_data=False`, or leave `sha256` out of the spec."
        )
    for entry in tensor.external_data:
        if entry.key == "location":
            resolve(path.parent, entry.value, f"{path}: the place of tensor {tensor.name!r}")


def _check_functions(model: onnx.ModelProto, path: Path) -> None:
    """Refuse functions that call each other so often that their calls, once replaced, would fill the memory."""
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node)
            branches = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
            total += sizes.get(key, 1) + sum(size(graph.node) for graph in branches)
        return total

    if size(model.graph.node) > _MOST_NODES:
        raise SurrogateError(
            f"{path}: has more than {_MOST_NODES} nodes once its functions are put in place. Export a smaller graph."
        )


def _graph(graph: onnx.GraphProto, path: Path, opset: int) -> Graph:
    if graph.sparse_initializer:
        raise SurrogateError(f"{path}: holds sparse weights, which are not supported. Export it with dense ones.")
    nodes = [_node(node, path, opset) for node in graph.node]
    constants = {tensor.name: _decode(tensor, path) for tensor in graph.initializer}
    constants.update({node.outputs[0]: _constant(node) for node in nodes if node.op_type == "Constant" and not node.domain})
    return Graph(
        path=path,
        opset=opset,
        nodes=tuple(node for node in nodes if node.outputs[0] not in constants),
        constants=constants,
        inputs={value.name: _shape(value) for value in graph.input if value.name not in constants},
        outputs=tuple(value.name for value in graph.output),
    )


def _node(node: onnx.NodeProto, path: Path, opset: int) -> Node:
    attributes = {attribute.name: _attribute(attribute, path, opset) for attribute in node.attribute}
    domain = "" if node.domain in _STANDARD else node.domain
    return Node(node.op_type, tuple(node.input), tuple(node.output), attributes, node.name, domain)


def _constant(node: Node) -> Tensor:
    """Return the one value of a node `Constant`, whichever attribute holds it."""
    (value,) = node.attributes.values()
    return value if isinstance(value, Tensor) else torch.tensor(value)


def _attribute(attribute: onnx.AttributeProto, path: Path, opset: int) -> Any:
    """Return an attribute as plain numbers, text, a tensor, or a graph."""
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _decode(value, path)
    if isinstance(value, onnx.GraphProto):
        return _graph(value, path, opset)
    if isinstance(value, bytes):
        return value.decode()
    if attribute.type == attribute.STRINGS:
        return [text.decode() for text in value]
    return value


def _decode(tensor: onnx.TensorProto, path: Path) -> Tensor:
    import onnx

    array = onnx.numpy_helper.to_array(tensor)
    if onnx.helper.tensor_dtype_to_string(tensor.data_type).removeprefix("TensorProto.") in (
        "FLOAT",
        "DOUBLE",
        "FLOAT16",
        "BFLOAT16",
    ):
        return torch.from_numpy(array.astype(np.float64)).to(torch.get_default_dtype())
    if array.dtype.kind not in "biu":
        raise SurrogateError(f"{path}: tensor {tensor.name!r} holds {array.dtype}, expected numbers. Export it in float32.")
    return torch.from_numpy(array.copy())


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(size.dim_value or None for size in value.type.tensor_type.shape.dim)
