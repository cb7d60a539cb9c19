"""ONNX operators that work element by element, comparisons and casts among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import SurrogateError
from .node import Operator

#: Types that a cast may ask for, by ONNX's number; every floating one is the network's own.
_INTEGERS = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool}
_FLOATS = (1, 10, 11, 16)


def divide(x: Tensor, y: Tensor) -> Tensor:
    """Divide; whole numbers towards zero, as in C."""
    is_whole = not (x.is_floating_point() or y.is_floating_point())
    return torch.div(x, y, rounding_mode="trunc" if is_whole else None)


def power(x: Tensor, exponent: Tensor) -> Tensor:
    """Raise to a power, in the type of the base."""
    return torch.pow(x, exponent).to(x.dtype)


def modulo(x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    """Return the remainder, with the sign of the divisor, or of the dividend if `fmod`."""
    return torch.fmod(x, y) if fmod else torch.remainder(x, y)


def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clip to bounds, each of which may be absent."""
    return x if low is None and high is None else torch.clamp(x, low, high)


def cast(x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    """Convert the type; floating numbers stay in the network's precision, so that derivatives keep their digits."""
    if to in _FLOATS:
        return x if x.is_floating_point() else x.double()
    if to not in _INTEGERS:
        raise SurrogateError(f"asks for type number {to}, which is not supported")
    return x.to(_INTEGERS[to])


def cast_like(x: Tensor, like: Tensor, *, saturate: int = 1) -> Tensor:
    """Convert to the type of another value."""
    return x.to(like.dtype)


def is_infinite(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Say which values are infinite, of either sign or of one."""
    negative, positive = torch.isneginf(x), torch.isposinf(x)
    return (negative & bool(detect_negative)) | (positive & bool(detect_positive))


def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Return x where positive, else alpha x."""
    return F.leaky_relu(x, alpha)


def parametric_relu(x: Tensor, slope: Tensor) -> Tensor:
    """Return x where positive, else slope times x."""
    return torch.where(x < 0, slope * x, x)


def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x where positive, else alpha (exp(x) - 1)."""
    return F.elu(x, alpha)


def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x where positive, else alpha (exp(x / alpha) - 1)."""
    return F.celu(x, alpha)


def selu(x: Tensor, *, alpha: float = 1.6732632, gamma: float = 1.0507010) -> Tensor:
    """Return gamma times the elu of x."""
    return gamma * F.elu(x, alpha)


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return x times the normal distribution function of x."""
    return F.gelu(x, approximate=approximate)


def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x sigmoid(alpha x)."""
    return x * torch.sigmoid(alpha * x)


def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return alpha x + beta, clipped to 0 and 1."""
    return (alpha * x + beta).clamp(0, 1)


def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return exp(x) as shares of their sum along an axis."""
    return torch.softmax(x, axis)


def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return the logarithm of the softmax."""
    return torch.log_softmax(x, axis)


def identity(x: Tensor) -> Tensor:
    """Return x."""
    return x


def dropout(x: Tensor, ratio: float = 0.5, training_mode: bool = False, *, seed: int = 0) -> Tensor:
    """Return x: a frozen network drops nothing."""
    if training_mode:
        raise SurrogateError("was exported in training mode, and would drop values at random")
    return x


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Return the operator that joins any number of inputs, two by two."""
    return Operator(lambda *values: reduce(function, values))


def _mean(*values: Tensor) -> Tensor:
    return reduce(torch.add, values) / len(values)


#: Operators by name.
ELEMENTWISE: Mapping[str, Operator] = {
    **{name: Operator(getattr(torch, name.lower())) for name in (
        "Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Log",
        "Mul", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Sqrt", "Sub", "Tan", "Tanh", "Where",
    )},
    "And": Operator(torch.logical_and),
    "Cast": Operator(cast),
    "CastLike": Operator(cast_like),
    "Celu": Operator(celu),
    "Clip": Operator(clip),
    "Div": Operator(divide),
    "Dropout": Operator(dropout, scalars=("ratio", "training_mode")),
    "Elu": Operator(elu),
    "Equal": Operator(torch.eq),
    "Gelu": Operator(gelu),
    "Greater": Operator(torch.gt),
    "GreaterOrEqual": Operator(torch.ge),
    "HardSigmoid": Operator(hard_sigmoid),
    "HardSwish": Operator(lambda x: F.hardswish(x)),
    "Identity": Operator(identity),
    "IsInf": Operator(is_infinite),
    "IsNaN": Operator(torch.isnan),
    "LeakyRelu": Operator(leaky_relu),
    "Less": Operator(torch.lt),
    "LessOrEqual": Operator(torch.le),
    "LogSoftmax": Operator(log_softmax),
    "Max": _variadic(torch.maximum),
    "Mean": Operator(_mean),
    "Min": _variadic(torch.minimum),
    "Mish": Operator(lambda x: F.mish(x)),
    "Mod": Operator(modulo),
    "Not": Operator(torch.logical_not),
    "Or": Operator(torch.logical_or),
    "PRelu": Operator(parametric_relu),
    "Pow": Operator(power),
    "Selu": Operator(selu),
    "Softmax": Operator(softmax),
    "Softplus": Operator(lambda x: F.softplus(x)),
    "Softsign": Operator(lambda x: F.softsign(x)),
    "Sum": _variadic(torch.add),
    "Swish": Operator(swish),
    "Xor": Operator(torch.logical_xor),
}  # fmt: skip
