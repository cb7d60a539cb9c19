"""ONNX operators on shapes and places: they move, cut, repeat and join values without computing with them.

An exported network computes its shapes while it runs, from the batch and the number of days that it is given: `Shape` starts such a
chain, `Reshape`, `Expand` or `ConstantOfShape` end it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import SurrogateError
from .node import Operator

_MOST_ELEMENTS = 1 << 30  # a shape in a file is a stranger's number


def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Return the sizes of x, or some of them."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def size(x: Tensor) -> Tensor:
    """Return the number of elements."""
    return torch.tensor(x.numel())


def reshape(x: Tensor, shape: list[int], *, allowzero: int = 0) -> Tensor:
    """Reshape; a size 0 stays as it was unless `allowzero`, and -1 is what is left."""
    sizes = [x.shape[place] if size == 0 and not allowzero else size for place, size in enumerate(shape)]
    return x.reshape(sizes)


def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Reshape to two dimensions, those before the axis and the others."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """Drop axes of size 1."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    """Insert axes of size 1; places are those in the result."""
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def transpose(x: Tensor, *, perm: list[int] | None = None) -> Tensor:
    """Reorder axes; reverse them if no order is given."""
    return x.permute(*(range(x.dim())[::-1] if perm is None else perm))


def expand(x: Tensor, shape: list[int]) -> Tensor:
    """Broadcast x and the shape against each other."""
    sizes = np.broadcast_shapes(x.shape, tuple(shape))
    check_size(math.prod(sizes))
    return x.expand(sizes)


def concat(*values: Tensor, axis: int) -> Tensor:
    """Join along an axis."""
    return torch.cat(values, axis)


def split(x: Tensor, split: list[int] | None = None, *, axis: int = 0, num_outputs: int = 1) -> tuple[Tensor, ...]:
    """Cut along an axis into parts of given sizes, or into parts of one size of which the last may be smaller."""
    return torch.split(x, -(-x.shape[axis] // num_outputs) if split is None else split, axis)


def cut(x: Tensor, starts: list[int], ends: list[int], axes: list[int] | None = None, steps: list[int] | None = None) -> Tensor:
    """Slice along axes as Python does."""
    axes = list(range(len(starts))) if axes is None else axes
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        places = range(x.shape[axis])[start:end:step]
        if step == 1:
            x = x.narrow(axis, places.start, len(places))
        else:
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
    return x


def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Pick slices along an axis; negative places count from its end."""
    places = _from_start(indices, x.shape[axis])
    axis %= x.dim()
    return x.index_select(axis, places.flatten()).reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Pick single elements along an axis."""
    return torch.gather(x, axis, _from_start(indices, x.shape[axis]))


def _from_start(indices: Tensor, length: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + length, indices)


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """Return x with the updates put at their places."""
    if reduction != "none":
        raise SurrogateError(f"has reduction {reduction!r}, which is not supported")
    return x.index_put(tuple(indices.unbind(-1)), updates)


def pad(x: Tensor, pads: list[int], value: float | None = None, axes: list[int] | None = None, *, mode: str = "constant") -> Tensor:
    """Add at both ends of axes: a constant, the border again, its mirror image, or the other end."""
    axes = list(range(x.dim())) if axes is None else axes
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        sizes = list(x.shape)
        sizes[axis] += before + after
        check_size(math.prod(sizes))
        if mode == "constant":
            behind = x.dim() - 1 - axis % x.dim()
            x = F.pad(x, [0, 0] * behind + [before, after], value=value or 0.0)
        elif before or after:
            x = x.index_select(axis, _padded(x.shape[axis], before, after, mode).to(x.device))
    return x


def _padded(length: int, before: int, after: int, mode: str) -> Tensor:
    """Return which place each element of a padded axis comes from."""
    places = torch.arange(-before, length + after)
    if mode == "edge":
        return places.clamp(0, length - 1)
    if mode == "wrap":
        return places % length
    if mode == "reflect":
        period = max(1, 2 * (length - 1))
        return torch.minimum(places % period, -places % period)
    raise SurrogateError(f"has mode {mode!r}, which is not supported")


def tile(x: Tensor, repeats: list[int]) -> Tensor:
    """Repeat along each axis."""
    check_size(x.numel() * math.prod(repeats))
    return x.repeat(repeats)


def constant_of_shape(shape: list[int], *, value: Tensor | None = None) -> Tensor:
    """Return one value throughout, zero if none is given."""
    check_size(math.prod(shape))
    return torch.zeros(shape) if value is None else value.reshape(()).expand(shape).clone()


def arange(start: float, limit: float, delta: float) -> Tensor:
    """Return the numbers from start to before the limit."""
    check_size((limit - start) / delta)
    return torch.arange(start, limit, delta)


def check_size(elements: float, most: int = _MOST_ELEMENTS) -> None:
    """Raise a SurrogateError if values would have more elements than are allowed."""
    if elements > most:
        raise SurrogateError(f"makes {elements:.2g} elements, at most {most:.2g} are allowed")


def triangle(x: Tensor, k: int = 0, *, upper: int = 1) -> Tensor:
    """Keep the upper or lower triangle of the last two axes."""
    return torch.triu(x, k) if upper else torch.tril(x, k)


#: Operators by name.
SHAPES: Mapping[str, Operator] = {
    "Concat": Operator(concat),
    "ConstantOfShape": Operator(constant_of_shape, numbers=("shape",)),
    "Expand": Operator(expand, numbers=("shape",)),
    "Flatten": Operator(flatten),
    "Gather": Operator(gather),
    "GatherElements": Operator(gather_elements),
    "Pad": Operator(pad, numbers=("pads", "axes"), scalars=("value",)),
    "Range": Operator(arange, scalars=("start", "limit", "delta")),
    "Reshape": Operator(reshape, numbers=("shape",)),
    "ScatterND": Operator(scatter_nd),
    "Shape": Operator(shape),
    "Size": Operator(size),
    "Slice": Operator(cut, numbers=("starts", "ends", "axes", "steps")),
    "Split": Operator(split, numbers=("split",), outputs=None),
    "Squeeze": Operator(squeeze, numbers=("axes",)),
    "Tile": Operator(tile, numbers=("repeats",)),
    "Transpose": Operator(transpose),
    "Trilu": Operator(triangle, scalars=("k",)),
    "Unsqueeze": Operator(unsqueeze, numbers=("axes",)),
}
