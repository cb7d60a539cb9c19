"""Surrogates as ONNX files, which most frameworks write: opening one runs no code, so it needs no trust."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from torch import nn

from ...errors import SurrogateError, suggest
from ...trust import Trust
from ..base import SurrogateSpec
from ..loaders import SurrogateLoader
from ..weights import needed
from .file import read_graph
from .network import OnnxNetwork
from .node import Graph

#: What the inputs of a network may be called, and how many dimensions they have.
_ROLES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "static": (("static", "statics", "static_features", "static_parameters", "static_attributes", "x_s"), 2),
    "forcing": (("forcing", "dynamic", "dynamic_features", "dynamic_inputs", "drivers", "x_d"), 3),
    "context": (("context", "past", "history"), 3),
    "horizon": (("horizon", "future"), 3),
}


class OnnxLoader(SurrogateLoader):
    """An ONNX model; `architecture` may name its inputs and its output, as `static_input`, `forcing_input` and `output`."""

    name: ClassVar[str] = "onnx"

    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Read the graph and find its inputs; those of split windows are `context_input` and `horizon_input`."""
        path, where = needed(weights, spec), f"surrogate spec {spec.name!r}, `architecture`"
        is_split = spec.windows is not None and spec.windows.inputs == "split"
        roles = ("static", "context", "horizon") if is_split else ("static", "forcing")
        known = [*(f"{role}_input" for role in roles), "output"]
        for key in spec.architecture:
            if key not in known:
                raise SurrogateError(f"{where}: unknown key {key!r}.{suggest(key, known)}")
        graph = read_graph(path, is_hashed=spec.sha256 is not None)
        inputs = find_inputs(graph, roles, spec.architecture, where)
        output = _named("output", spec.architecture, graph.outputs, where) or _only_output(graph)
        for role, name in inputs.items():
            _check_shape(graph, name, role, spec)
        return OnnxNetwork(graph, tuple(inputs.values()), output)


def find_inputs(graph: Graph, roles: Sequence[str], named: Mapping[str, object], where: str) -> dict[str, str]:
    """Return which input of a graph plays which role: as named, else by its own name, else by its dimensions, else the last one.

    Args:
        graph: The graph.
        roles: `static` and `forcing`, or `static`, `context` and `horizon`.
        named: May hold the name of an input as `static_input`, and so on.
        where: Who names them, for the error.

    Returns:
        Names by roles, in the order of the roles.

    Raises:
        SurrogateError: If the graph has other inputs, or it is not clear which is which.
    """
    if len(graph.inputs) != len(roles):
        raise SurrogateError(
            f"{graph.path}: has inputs {_listed(graph)}, expected {len(roles)}: {' and '.join(roles)}. "
            "Wrap the network in a module with these arguments and export it again."
        )
    found = {role: name for role in roles if (name := _named(f"{role}_input", named, graph.inputs, where)) is not None}
    for is_alike in (_is_called, _has_dimensions, lambda *_: True):
        for role in roles:
            left = [name for name in graph.inputs if name not in found.values()]
            alike = [name for name in left if is_alike(graph, name, role)]
            if role not in found and len(alike) == 1:
                found[role] = alike[0]
    if len(set(found.values())) != len(roles):
        keys = " and ".join(f"`{role}_input`" for role in roles)
        raise SurrogateError(f"{graph.path}: which of the inputs {_listed(graph)} is which? Name {keys} in {where}.")
    return {role: found[role] for role in roles}


def _is_called(graph: Graph, name: str, role: str) -> bool:
    return name.lower() in _ROLES[role][0]


def _has_dimensions(graph: Graph, name: str, role: str) -> bool:
    return len(graph.inputs[name]) == _ROLES[role][1]


def _named(key: str, named: Mapping[str, object], known: Collection[str], where: str) -> str | None:
    """Return what the spec says under a key, which must be there in the graph."""
    name = named.get(key)
    if name is None:
        return None
    if not isinstance(name, str) or name not in known:
        raise SurrogateError(f"{where}: `{key}` is {name!r}, which the graph does not have.{suggest(str(name), known)}")
    return name


def _only_output(graph: Graph) -> str:
    if len(graph.outputs) != 1:
        raise SurrogateError(
            f"{graph.path}: has outputs {', '.join(graph.outputs)}. Name the one that holds the fluxes as `output` in "
            "`architecture` of the spec."
        )
    return graph.outputs[0]


def _listed(graph: Graph) -> str:
    shapes = [
        f"{name} ({', '.join('any' if size is None else str(size) for size in sizes)})" for name, sizes in graph.inputs.items()
    ]
    return ", ".join(shapes) or "of no kind"


def _check_shape(graph: Graph, name: str, role: str, spec: SurrogateSpec) -> None:
    """Compare the shape that a file states for an input with the spec."""
    sizes, dimensions = graph.inputs[name], _ROLES[role][1]
    if not sizes:  # the file does not say
        return
    if len(sizes) != dimensions:
        raise SurrogateError(f"{graph.path}: input {name!r} has {len(sizes)} dimensions, expected {dimensions} for {role}.")
    if sizes[0] is not None:
        raise SurrogateError(
            f"{graph.path}: input {name!r} was exported for a batch of exactly {sizes[0]}, but an inversion runs many members "
            "side by side. Export it with a dynamic batch axis."
        )
    kind, variables = ("static parameters", spec.statics) if role == "static" else ("drivers", spec.drivers)
    if sizes[-1] not in (None, len(variables)):
        raise SurrogateError(
            f"{graph.path}: input {name!r} takes {sizes[-1]} {kind}, spec {spec.name!r} names {len(variables)}. Mend the spec."
        )
    if role != "static":
        _check_days(graph, sizes[1], _days(role, spec), spec)


def _days(role: str, spec: SurrogateSpec) -> int | None:
    """Return how many days an input has by the spec, if that is fixed."""
    if spec.windows is None:
        return spec.fixed_length
    return {"context": spec.windows.context_days, "horizon": spec.windows.horizon_days}.get(role, spec.windows.days)


def _check_days(graph: Graph, found: int | None, expected: int | None, spec: SurrogateSpec) -> None:
    if found not in (None, expected):
        raise SurrogateError(
            f"{graph.path}: was exported for exactly {found} days, spec {spec.name!r} says {expected or 'any number'}. "
            f"Export it with a dynamic time axis, or state `fixed_length: {found}` or `windows` in the spec."
        )
