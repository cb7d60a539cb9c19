"""Spaces of the static parameters and the maps between them.

One vector of P parameters is seen in three spaces:

* ``physical``: the numbers of the table, with units;
* ``scaled``: the surrogate's normalised input, (x - mean) / std, of log x where the spec says so;
* ``theta``: what the optimiser moves. By default theta *is* ``scaled`` and bounds are kept by clipping in physical space after
  each step; a bijection (sigmoid, softplus, log) makes theta unbounded instead.

Bounds may name another parameter (`a <= b`), so they depend on the values; :class:`Bounds` resolves them in an order in which each
parameter comes after those that bound it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import ParameterTableError

#: Share of the interval that a bijection keeps free at each end, so that a prior on its bound has a finite theta.
_EDGE = 1e-6


class Scaler(nn.Module):
    r"""Standardise physical parameters for the surrogate, in log space where asked.

    .. math:: z = (f(x) - \mu) / \sigma, \qquad f = \log \text{ or the identity}

    Args:
        mean: A (P,)-dim tensor, in units of f(x).
        std: A (P,)-dim tensor, positive.
        log: A boolean (P,)-dim tensor; all false when omitted.

    Raises:
        ParameterTableError: If a standard deviation is not positive and finite.

    Example:
        >>> scaler = Scaler(torch.tensor([10.0, 0.0]), torch.tensor([2.0, 1.0]), torch.tensor([False, True]))
        >>> scaler.to_scaled(torch.tensor([12.0, 1.0]))
        tensor([1., 0.])
    """

    mean: Tensor
    std: Tensor
    log: Tensor

    def __init__(self, mean: Tensor, std: Tensor, log: Tensor | None = None) -> None:
        super().__init__()
        bad = (~(torch.isfinite(std) & (std > 0))).nonzero().flatten().tolist()
        if bad:
            raise ParameterTableError(
                f"scaler: standard deviation of static parameter number {bad[0] + 1} is {std[bad[0]].item()!r}, "
                "expected a positive finite number. Mend the surrogate's spec."
            )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.register_buffer("log", torch.zeros_like(mean, dtype=torch.bool) if log is None else log, persistent=False)

    def to_scaled(self, physical: Tensor) -> Tensor:
        """Map physical values (..., P) to the surrogate's normalised input."""
        return (self.to_line(physical) - self.mean) / self.std

    def to_physical(self, scaled: Tensor) -> Tensor:
        """Map normalised values (..., P) back to physical units."""
        return self.from_line(scaled * self.std + self.mean)

    def to_line(self, physical: Tensor) -> Tensor:
        """Take the logarithm where the spec says so: equal steps are equal ratios there."""
        # the same smallest number in every precision but the shortest, so that zero rain is the same in all
        tiny = max(torch.finfo(torch.float32).tiny, torch.finfo(physical.dtype).tiny)
        return torch.where(self.log, physical.clamp_min(tiny).log(), physical)

    def from_line(self, value: Tensor) -> Tensor:
        """Undo `to_line`."""
        # exp only where it is meant: a large linear value would overflow there and poison the gradient of `where`.
        return torch.where(self.log, torch.where(self.log, value, 0.0).exp(), value)


class Bounds(nn.Module):
    """Lower and upper bounds of P physical parameters, some of which name another parameter.

    Args:
        lower: A (P,)-dim tensor; -inf where there is none; ignored where `lower_from` names a parameter.
        upper: A (P,)-dim tensor; +inf where there is none.
        lower_from: For each parameter the index of the one that is its lower bound, or -1.
        upper_from: Likewise for the upper bound.

    Raises:
        ParameterTableError: If the references form a circle.

    Example:
        >>> bounds = Bounds(torch.zeros(2), torch.tensor([9.0, 0.5]), [-1, -1], [1, -1])  # x0 <= x1 <= 0.5
        >>> bounds.clip(torch.tensor([0.7, 0.4]))
        tensor([0.4000, 0.4000])
    """

    lower: Tensor
    upper: Tensor

    def __init__(
        self,
        lower: Tensor,
        upper: Tensor,
        lower_from: Sequence[int] | None = None,
        upper_from: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        count = lower.numel()
        self.lower_from = list(lower_from) if lower_from is not None else [-1] * count
        self.upper_from = list(upper_from) if upper_from is not None else [-1] * count
        self.register_buffer("lower", lower, persistent=False)
        self.register_buffer("upper", upper, persistent=False)
        self.dependent = self._order()

    def _order(self) -> list[int]:
        """Parameters with a bound that names another one, each after those that it names."""
        waiting = {
            i: {s for s in (low, up) if s >= 0}
            for i, (low, up) in enumerate(zip(self.lower_from, self.upper_from, strict=True))
            if low >= 0 or up >= 0
        }
        order: list[int] = []
        while waiting:
            ready = [i for i, sources in waiting.items() if not sources & waiting.keys()]
            if not ready:
                numbers = ", ".join(str(i + 1) for i in sorted(waiting))
                raise ParameterTableError(
                    f"bounds of static parameters number {numbers} name each other in a circle. Give at least one of them a number."
                )
            order += ready
            for i in ready:
                del waiting[i]
        return order

    def resolve(self, physical: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds (..., P) at these physical values."""
        return self._follow(physical, self.lower.expand_as(physical), self.upper.expand_as(physical))

    def push(self, tangents: Tensor) -> tuple[Tensor, Tensor]:
        """Return how the bounds change along tangents (..., P) of the parameters: as the parameters that they name do."""
        return self._follow(tangents, torch.zeros_like(tangents), torch.zeros_like(tangents))

    def _follow(self, values: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return both sides with the values of the parameters that they name in place."""
        for i in self.dependent:
            if self.lower_from[i] >= 0:
                lower = _replace(lower, i, values[..., self.lower_from[i]])
            if self.upper_from[i] >= 0:
                upper = _replace(upper, i, values[..., self.upper_from[i]])
        return lower, upper

    def clip(self, physical: Tensor) -> Tensor:
        """Return the values moved into their bounds, those that bound others first."""
        clipped = torch.minimum(torch.maximum(physical, self.lower), self.upper)
        for i in self.dependent:
            low = clipped[..., self.lower_from[i]] if self.lower_from[i] >= 0 else self.lower[i]
            up = clipped[..., self.upper_from[i]] if self.upper_from[i] >= 0 else self.upper[i]
            clipped = _replace(clipped, i, torch.minimum(torch.maximum(physical[..., i], low), up))
        return clipped


class Transform(nn.Module, ABC):
    """The map between theta and the physical parameters: a constraint by construction.

    A subclass has a unique `name`, by which a config chooses it, and two methods that invert each other inside the bounds. Both are
    differentiable and act on tensors (..., P). Register subclasses with the hook `register_transforms`.

    Args:
        scaler: The surrogate's scaling of the parameters.
        bounds: Bounds in physical space.
    """

    name: ClassVar[str]
    keeps_lower: ClassVar[bool] = False
    """Whether no theta can be below the lower bounds."""
    keeps_upper: ClassVar[bool] = False
    """Whether no theta can be above the upper bounds."""

    def __init__(self, scaler: Scaler, bounds: Bounds) -> None:
        super().__init__()
        self.scaler, self.bounds = scaler, bounds

    @abstractmethod
    def to_physical(self, theta: Tensor) -> Tensor:
        """Map theta (..., P) to physical values."""

    @abstractmethod
    def to_theta(self, physical: Tensor) -> Tensor:
        """Map physical values (..., P) inside their bounds to theta."""


class ScaledTransform(Transform):
    """Theta is the surrogate's normalised input; bounds are kept by clipping after each step."""

    name = "scaled"

    def to_physical(self, theta: Tensor) -> Tensor:
        """Undo the normalisation."""
        return self.scaler.to_physical(theta)

    def to_theta(self, physical: Tensor) -> Tensor:
        """Normalise."""
        return self.scaler.to_scaled(physical)


class SigmoidTransform(Transform):
    r"""Both bounds hold by construction.

    .. math:: f(x) = f(l) + (f(u) - f(l)) / (1 + e^{-\theta})

    with f the logarithm for parameters that the surrogate scales in log space, so that equal steps of theta are equal ratios there.
    Needs two finite bounds for each parameter.
    """

    name = "sigmoid"
    keeps_lower = True
    keeps_upper = True

    def __init__(self, scaler: Scaler, bounds: Bounds) -> None:
        super().__init__(scaler, bounds)
        _check_finite("min", bounds.lower, bounds.lower_from, self.name)
        _check_finite("max", bounds.upper, bounds.upper_from, self.name)

    def _interval(self, physical: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self.bounds.resolve(physical)
        return self.scaler.to_line(lower), self.scaler.to_line(upper)

    def to_physical(self, theta: Tensor) -> Tensor:
        """Squash theta between the bounds; parameters that bound others first."""
        share = torch.sigmoid(theta)
        lower, upper = self.scaler.to_line(self.bounds.lower), self.scaler.to_line(self.bounds.upper)
        finite_lower = torch.where(torch.isfinite(lower), lower, 0.0)
        finite_upper = torch.where(torch.isfinite(upper), upper, 1.0)
        physical = self.scaler.from_line(finite_lower + (finite_upper - finite_lower) * share)
        for i in self.bounds.dependent:
            low, up = self._interval(physical)
            line = low[..., i] + (up[..., i] - low[..., i]) * share[..., i]
            physical = _replace(physical, i, torch.where(self.scaler.log[i], line.exp(), line))
        return physical

    def to_theta(self, physical: Tensor) -> Tensor:
        """Logit of the place between the bounds, kept a millionth away from each."""
        lower, upper = self._interval(physical)
        width = (upper - lower).clamp_min(torch.finfo(physical.dtype).tiny)
        return torch.logit((self.scaler.to_line(physical) - lower) / width, eps=_EDGE)


class LowerBoundTransform(Transform):
    """The lower bound holds by construction, the upper one by clipping: physical = lower + width * grow(theta).

    The width is the parameter's spread in physical units at the mean of the surrogate's scaling, so that theta is of order one.
    """

    keeps_lower = True

    def __init__(self, scaler: Scaler, bounds: Bounds) -> None:
        super().__init__(scaler, bounds)
        _check_finite("min", bounds.lower, bounds.lower_from, self.name)
        one_up = scaler.to_physical(torch.ones_like(scaler.mean))
        width = one_up - scaler.to_physical(torch.zeros_like(scaler.mean))
        self.register_buffer("width", width, persistent=False)

    width: Tensor

    @abstractmethod
    def grow(self, theta: Tensor) -> Tensor:
        """Map the real line to positive distances."""

    @abstractmethod
    def shrink(self, distance: Tensor) -> Tensor:
        """Invert `grow`."""

    def to_physical(self, theta: Tensor) -> Tensor:
        """Add a positive distance to the lower bounds, those that bound others first."""
        distance = self.grow(theta) * self.width
        physical = self.bounds.lower + distance
        for i in self.bounds.dependent:
            lower, _ = self.bounds.resolve(physical)
            physical = _replace(physical, i, lower[..., i] + distance[..., i])
        return physical

    def to_theta(self, physical: Tensor) -> Tensor:
        """Invert the distance from the lower bound, kept a millionth of the width away from it."""
        distance = (physical - self.bounds.resolve(physical)[0]) / self.width
        return self.shrink(distance.clamp_min(_EDGE))


class SoftplusTransform(LowerBoundTransform):
    r"""Above the lower bound, smoothly: :math:`x = l + s \log(1 + e^{\theta})`."""

    name = "softplus"

    def grow(self, theta: Tensor) -> Tensor:
        """Softplus."""
        return functional.softplus(theta)

    def shrink(self, distance: Tensor) -> Tensor:
        """Inverse softplus, exact for small and large distances."""
        return distance + torch.log(-torch.expm1(-distance))


class LogTransform(LowerBoundTransform):
    r"""Above the lower bound, in ratios: :math:`x = l + s e^{\theta}`."""

    name = "log"

    def grow(self, theta: Tensor) -> Tensor:
        """Exponential."""
        return theta.exp()

    def shrink(self, distance: Tensor) -> Tensor:
        """Logarithm."""
        return distance.log()


def _replace(values: Tensor, index: int, value: Tensor) -> Tensor:
    """Return (..., P) values with one column replaced, out of place so that gradients flow."""
    return torch.cat([values[..., :index], value.unsqueeze(-1), values[..., index + 1 :]], dim=-1)


def _check_finite(side: str, values: Tensor, named: Sequence[int], transform: str) -> None:
    """Raise where a bound that a transform needs is neither a finite number nor another parameter."""
    for i, (value, source) in enumerate(zip(values.tolist(), named, strict=True)):
        if source < 0 and not math.isfinite(value):
            raise ParameterTableError(
                f"transform {transform!r} needs a finite {side} for static parameter number {i + 1}. "
                "Give one in the table, or use the transform 'scaled'."
            )
