"""ONNX operators that are layers of a network or parts of them: products, convolutions, norms, attention, sums along axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import SurrogateError
from .node import Operator

_Reduction: TypeAlias = Callable[[Tensor, list[int], bool], Tensor]
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Tensor:
    """Return alpha a b + beta c, with a or b transposed if asked for."""
    product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return product if c is None else product + beta * c


def einsum(*values: Tensor, equation: str) -> Tensor:
    """Sum products over the indices that the equation repeats."""
    return torch.einsum(equation, *values)


def cumulative_sum(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Sum up along an axis, from its end if `reverse`, each place itself left out if `exclusive`."""
    total = x.flip(axis).cumsum(axis).flip(axis) if reverse else x.cumsum(axis)
    return total - x if exclusive else total


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Convolve along one to three axes; the padding of both ends may differ, as in a causal network."""
    axes = weight.dim() - 2
    if auto_pad not in ("NOTSET", "VALID"):
        raise SurrogateError(f"has auto_pad {auto_pad!r}, which is not supported")
    if axes not in _CONVOLUTIONS:
        raise SurrogateError(f"convolves along {axes} axes, which is not supported")
    if pads:
        x = F.pad(x, [side for axis in reversed(range(axes)) for side in (pads[axis], pads[axis + axes])])
    one = [1] * axes
    return _CONVOLUTIONS[axes](x, weight, bias, strides or one, 0, dilations or one, group)


def batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor:
    """Normalise by the statistics of training."""
    if training_mode:
        raise SurrogateError("was exported in training mode, and would normalise by the batch")
    factor = scale / torch.sqrt(variance + epsilon)
    return _per_channel(factor, x) * (x - _per_channel(mean, x)) + _per_channel(bias, x)


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.dim() - 2))


def instance_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Normalise each channel of each member along the other axes."""
    return F.group_norm(x, x.shape[1], scale, bias, epsilon)


def group_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1) -> Tensor:
    """Normalise groups of channels of each member."""
    if len(scale) != x.shape[1]:  # before opset 21 one for each group
        scale, bias = (value.repeat_interleave(x.shape[1] // num_groups) for value in (scale, bias))
    return F.group_norm(x, num_groups, scale, bias, epsilon)


def layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Normalise each element along the last axes."""
    normal = F.layer_norm(x, x.shape[axis:], eps=epsilon) * scale
    return normal if bias is None else normal + bias


def rms_norm(x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    """Divide by the root mean square along the last axes."""
    axes = list(range(axis % x.dim(), x.dim()))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + epsilon) * scale


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    scale: float = 0.0,
    softcap: float = 0.0,
    softmax_precision: int = 1,
) -> Tensor:
    """Attend: heads lie on an axis of their own, (B, heads, T, width), or side by side in the last, (B, T, heads * width)."""
    has_flat_heads = query.dim() == 3
    if has_flat_heads:
        query = query.unflatten(2, (q_num_heads, -1)).transpose(1, 2)
        key, value = (x.unflatten(2, (kv_num_heads, -1)).transpose(1, 2) for x in (key, value))
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    score = query @ key.transpose(-1, -2) * (scale or 1 / math.sqrt(query.shape[-1]))
    score = softcap * torch.tanh(score / softcap) if softcap else score
    if is_causal:
        score = _hide(score, score.new_ones(score.shape[-2:], dtype=torch.bool).tril())
    if mask is not None:
        score = _hide(score, mask) if mask.dtype == torch.bool else score + mask
    seen = _shares(score) @ value
    return seen.transpose(1, 2).flatten(2) if has_flat_heads else seen


def _shares(score: Tensor) -> Tensor:
    """Return the softmax along the last axis; a row that sees nothing gets zeros, and no gradient of NaN."""
    is_blind = torch.isneginf(score).all(-1, keepdim=True)
    return torch.softmax(score.masked_fill(is_blind, 0.0), -1).masked_fill(is_blind, 0.0)


def _hide(score: Tensor, visible: Tensor) -> Tensor:
    return torch.where(visible, score, -math.inf)


def _reduction(function: _Reduction) -> Operator:
    """Return the operator that reduces along axes, given as an input or, up to opset 17, as an attribute."""

    def along(x: Tensor, axes: list[int] | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        if not axes and noop_with_empty_axes:
            return function(x[None], [0], False)
        return function(x, axes or list(range(x.dim())), bool(keepdims))

    return Operator(along, numbers=("axes",))


def _product(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    places = sorted((axis % x.dim() for axis in axes), reverse=True)
    return functools.reduce(lambda value, axis: value.prod(axis, keepdims), places, x)


#: Operators by name.
LAYERS: Mapping[str, Operator] = {
    "Attention": Operator(attention),
    "BatchNormalization": Operator(batch_norm),
    "Conv": Operator(convolve),
    "CumSum": Operator(cumulative_sum, scalars=("axis",)),
    "Einsum": Operator(einsum),
    "Gemm": Operator(gemm),
    "GroupNormalization": Operator(group_norm),
    "InstanceNormalization": Operator(instance_norm),
    "LayerNormalization": Operator(layer_norm),
    "MatMul": Operator(torch.matmul),
    "RMSNormalization": Operator(rms_norm),
    "ReduceL1": _reduction(lambda x, axes, keeps: x.abs().sum(axes, keeps)),
    "ReduceL2": _reduction(lambda x, axes, keeps: torch.linalg.vector_norm(x, 2, axes, keeps)),
    "ReduceLogSumExp": _reduction(torch.logsumexp),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(torch.sum),
    "ReduceSumSquare": _reduction(lambda x, axes, keeps: x.square().sum(axes, keeps)),
}
