"""The contract of a constraint transform, as a check."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import gradcheck

from ..transforms import Bounds, Scaler, Transform


def check_constraint(transform: type[Transform], *, keeps: Collection[Literal["lower", "upper"]] = ()) -> None:
    """Hold a constraint transform to what an inversion relies on.

    Round trips both ways in float64 and float32, for single vectors and batches, with linear and logarithmic scaling and bounds
    that name another parameter; a finite theta for a prior on its bound; gradients that agree with finite differences and stay
    finite far out; and the bounds that it promises to keep.

    Args:
        transform: The class, built as `transform(scaler, bounds)`.
        keeps: Sides on which the bounds hold for every theta.

    Raises:
        AssertionError: If a promise is broken; the message names the transform and the promise.

    Example:
        >>> from lit_invert.transforms import SigmoidTransform
        >>> check_constraint(SigmoidTransform, keeps=("lower", "upper"))
    """
    label = f"transform {getattr(transform, 'name', transform.__name__)!r}"
    assert isinstance(getattr(transform, "name", None), str), f"{label}: the class has no attribute `name` with its unique name."
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        built = _build_transform(transform, dtype)
        _check_round_trips(built, tolerance, f"{label} in {dtype}")
        _check_far_out(built, keeps, f"{label} in {dtype}")
    built = _build_transform(transform, torch.float64)
    theta = built.to_theta(_inside(built, 0.4)).detach().requires_grad_()
    try:
        gradcheck(built.to_physical, [theta])
    except RuntimeError as error:
        raise AssertionError(f"{label}: the gradient of to_physical disagrees with finite differences. {error}") from error


def _build_transform(transform: type[Transform], dtype: torch.dtype) -> Transform:
    """Build it for a linear parameter, a logarithmic one, one bounded above by the first, and one bounded below by the third."""
    mean, std = torch.tensor([2.0, -3.0, 0.0, 4.0], dtype=dtype), torch.tensor([4.0, 1.5, 2.0, 3.0], dtype=dtype)
    lower = torch.tensor([-5.0, 1e-3, -6.0, -torch.inf], dtype=dtype)
    upper = torch.tensor([10.0, 1.0, torch.inf, 12.0], dtype=dtype)
    scaler = Scaler(mean, std, torch.tensor([False, True, False, False]))
    return transform(scaler, Bounds(lower, upper, [-1, -1, -1, 2], [-1, -1, 0, -1]))


def _inside(transform: Transform, share: float) -> Tensor:
    """Return physical values at a share of each interval, those that bound others first."""
    physical = torch.zeros_like(transform.bounds.lower)
    free = [i for i in range(len(physical)) if i not in transform.bounds.dependent]
    for i in free + transform.bounds.dependent:
        lower, upper = transform.bounds.resolve(physical)
        physical[i] = lower[i] + share * (upper[i] - lower[i])
    return physical


def _check_round_trips(transform: Transform, tolerance: float, label: str) -> None:
    physical = torch.stack([_inside(transform, share) for share in (0.05, 0.3, 0.6, 0.95)])
    theta = transform.to_theta(physical)
    assert theta.dtype == physical.dtype, f"{label}: to_theta returned {theta.dtype}; keep the inputs' precision."
    back = transform.to_physical(theta)
    assert torch.allclose(back, physical, rtol=tolerance, atol=tolerance), (
        f"{label}: to_physical(to_theta(x)) is {back.tolist()}, expected {physical.tolist()}."
    )
    again = transform.to_theta(back)
    assert torch.allclose(again, theta, rtol=tolerance, atol=100 * tolerance), (
        f"{label}: to_theta(to_physical(theta)) is {again.tolist()}, expected {theta.tolist()}."
    )
    single = transform.to_physical(theta[0])
    assert torch.allclose(single, back[0]), f"{label}: one vector maps to {single.tolist()}, in a batch to {back[0].tolist()}."
    for share, side in ((0.0, "lower"), (1.0, "upper")):
        edge = transform.to_theta(_inside(transform, share))
        assert torch.isfinite(edge).all(), f"{label}: theta of a prior on its {side} bounds is {edge.tolist()}, not finite."


def _check_far_out(transform: Transform, keeps: Collection[str], label: str) -> None:
    for far in (-9.0, 9.0):
        theta = torch.full_like(transform.bounds.lower, far).requires_grad_()
        physical = transform.to_physical(theta)
        (gradient,) = torch.autograd.grad(physical.sum(), theta)
        assert torch.isfinite(gradient).all(), f"{label}: the gradient of to_physical at theta = {far} is {gradient.tolist()}."
        lower, upper = transform.bounds.resolve(physical)
        assert "lower" not in keeps or (physical >= lower - 1e-5).all(), f"{label}: theta = {far} falls below a lower bound."
        assert "upper" not in keeps or (physical <= upper + 1e-5).all(), f"{label}: theta = {far} rises above an upper bound."
