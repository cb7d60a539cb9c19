from __future__ import annotations

import math

import pytest
import torch

from lit_invert.errors import ParameterTableError
from lit_invert.transforms import Bounds, LogTransform, ScaledTransform, Scaler, SigmoidTransform, SoftplusTransform

TRANSFORMS = [ScaledTransform, SigmoidTransform, SoftplusTransform, LogTransform]
ABOVE = [SigmoidTransform, SoftplusTransform, LogTransform]


def chain(dtype=torch.float64):
    """Five parameters: a <= b <= c <= 0.9, a positive one scaled in log space, and one above a negative bound."""
    lower = torch.tensor([0.01, 0.02, 0.3, 1e-4, -5.0], dtype=dtype)
    upper = torch.tensor([math.inf, math.inf, 0.9, 1e-1, 10.0], dtype=dtype)
    return Bounds(lower, upper, None, [1, 2, -1, -1, -1])


def scaler(dtype=torch.float64):
    mean = torch.tensor([0.2, 0.3, 0.6, math.log(1e-2), 2.0], dtype=dtype)
    std = torch.tensor([0.1, 0.1, 0.2, 0.8, 3.0], dtype=dtype)
    return Scaler(mean, std, torch.tensor([False, False, False, True, False]))


def inside(count=20, dtype=torch.float64):
    """Random physical values well inside the bounds of `chain`."""
    generator = torch.Generator().manual_seed(0)
    share = 0.1 + 0.8 * torch.rand(count, 5, generator=generator, dtype=torch.float64)
    c = 0.3 + 0.6 * share[:, 2]
    b = 0.02 + (c - 0.02) * share[:, 1]
    a = 0.01 + (b - 0.01) * share[:, 0]
    d = 1e-4 * 1e3 ** share[:, 3]
    return torch.stack([a, b, c, d, -5 + 15 * share[:, 4]], dim=-1).to(dtype)


def test_scaler_standardises_in_its_own_space():
    physical = torch.tensor([0.3, 0.2, 1.0, 1e-2 * math.exp(1.6), -4.0], dtype=torch.float64)
    expected = torch.tensor([1.0, -1.0, 2.0, 2.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(scaler().to_scaled(physical), expected, rtol=0, atol=1e-14)


def test_scaler_keeps_values_and_gradients_finite_where_log_does_not_apply():
    # exp of a large linear value, or log of a negative one, must not poison the others' gradients.
    physical = torch.tensor([[-3.0, 0.0, 1e4, 1e-2, 900.0]], dtype=torch.float64, requires_grad=True)
    scaled = scaler().to_scaled(physical)
    (gradient,) = torch.autograd.grad(scaled.sum(), physical)
    torch.testing.assert_close(gradient[0], torch.tensor([10.0, 10.0, 5.0, 125.0, 1 / 3], dtype=torch.float64), rtol=1e-12, atol=0)
    large = torch.full((5,), 1e3, dtype=torch.float64, requires_grad=True)  # exp(1e3 * std) overflows
    (gradient,) = torch.autograd.grad(scaler().to_physical(large)[[0, 1, 2, 4]].sum(), large)
    torch.testing.assert_close(gradient[[0, 1, 2, 4]], scaler().std[[0, 1, 2, 4]], rtol=1e-15, atol=0)


@pytest.mark.parametrize(("std", "number"), [([1.0, 0.0], 2), ([-1.0, 1.0], 1), ([math.nan, 1.0], 1), ([1.0, math.inf], 2)])
def test_scaler_refuses_a_spread_that_is_none(std, number):
    with pytest.raises(ParameterTableError, match=f"standard deviation of static parameter number {number} is"):
        Scaler(torch.zeros(2), torch.tensor(std))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_round_trip(transform, dtype, tolerance):
    one = transform(scaler(dtype), chain(dtype))
    physical = inside(dtype=dtype)
    theta = one.to_theta(physical)
    assert theta.dtype == dtype
    torch.testing.assert_close(one.to_physical(theta), physical, rtol=tolerance, atol=0)
    torch.testing.assert_close(one.to_theta(one.to_physical(theta)), theta, rtol=0, atol=50 * tolerance)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_one_vector_is_a_batch_of_none(transform):
    one = transform(scaler(), chain())
    physical = inside(3)
    theta = one.to_theta(physical)
    for member in range(3):
        assert torch.equal(one.to_theta(physical[member]), theta[member])
        assert torch.equal(one.to_physical(theta[member]), one.to_physical(theta)[member])


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gradient_matches_differences(transform):
    one = transform(scaler(), chain())
    theta = one.to_theta(inside(1))[0]
    jacobian = torch.autograd.functional.jacobian(one.to_physical, theta)
    step = 1e-6
    for j in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[j] = step
        expected = (one.to_physical(theta + shift) - one.to_physical(theta - shift)) / (2 * step)
        torch.testing.assert_close(jacobian[:, j], expected, rtol=1e-6, atol=1e-10)
    assert bool((jacobian.diagonal() > 0).all())


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gradients_of_the_way_back_invert_those_of_the_way_there(transform):
    one = transform(scaler(), chain())
    physical = inside(1)[0]
    there = torch.autograd.functional.jacobian(one.to_theta, physical)
    back = torch.autograd.functional.jacobian(one.to_physical, one.to_theta(physical))
    torch.testing.assert_close(back @ there, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1.0, 30.0, 1e4])
def test_sigmoid_keeps_both_bounds_however_far_theta_goes(size):
    one = SigmoidTransform(scaler(), chain())
    torch.manual_seed(0)
    physical = one.to_physical(torch.randn(200, 5, dtype=torch.float64) * size)
    lower, upper = one.bounds.resolve(physical)
    assert bool(torch.isfinite(physical).all())
    assert bool((physical >= lower - 1e-14).all())
    assert bool((physical <= upper + 1e-14).all())


def test_sigmoid_of_zero_is_the_middle_in_the_surrogates_scale():
    middle = SigmoidTransform(scaler(), chain()).to_physical(torch.zeros(5, dtype=torch.float64))
    c = (0.3 + 0.9) / 2
    b = (0.02 + c) / 2
    expected = [(0.01 + b) / 2, b, c, math.sqrt(1e-4 * 1e-1), 2.5]
    assert middle.tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("transform", [SoftplusTransform, LogTransform])
def test_lower_bounds_hold_by_construction(transform):
    one = transform(scaler(), chain())
    torch.manual_seed(0)
    physical = one.to_physical(torch.randn(200, 5, dtype=torch.float64) * 30)
    assert bool((physical >= one.bounds.resolve(physical)[0]).all())


def test_closed_forms_of_the_lower_bound_transforms():
    theta = torch.full((5,), 0.7, dtype=torch.float64)
    width = torch.tensor([0.1, 0.1, 0.2, 1e-2 * (math.exp(0.8) - 1), 3.0], dtype=torch.float64)
    lower = chain().lower
    softplus = SoftplusTransform(scaler(), chain()).to_physical(theta)
    torch.testing.assert_close(softplus, lower + width * math.log(1 + math.exp(0.7)), rtol=1e-14, atol=0)
    log = LogTransform(scaler(), chain()).to_physical(theta)
    torch.testing.assert_close(log, lower + width * math.exp(0.7), rtol=1e-14, atol=0)


@pytest.mark.parametrize("transform", ABOVE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_value_on_its_bound_has_a_finite_theta(transform, dtype):
    one = transform(scaler(dtype), chain(dtype))
    lower = torch.tensor([0.01, 0.02, 0.3, 1e-4, -5.0], dtype=dtype)
    upper = torch.tensor([0.9, 0.9, 0.9, 1e-1, 10.0], dtype=dtype)
    for edge in (lower, upper):
        theta = one.to_theta(edge).requires_grad_()
        assert bool(torch.isfinite(theta).all())
        back = one.to_physical(theta)
        # The edge of a millionth of the interval; for the log-scaled one, of its logarithm.
        torch.testing.assert_close(back, edge, rtol=1e-5, atol=2e-5)
        (gradient,) = torch.autograd.grad(back.sum(), theta)
        assert bool((gradient > 0).all())


@pytest.mark.parametrize(
    ("transform", "side", "message"),
    [
        (SigmoidTransform, "lower", "transform 'sigmoid' needs a finite min for static parameter number 3"),
        (SigmoidTransform, "upper", "transform 'sigmoid' needs a finite max for static parameter number 3"),
        (SoftplusTransform, "lower", "transform 'softplus' needs a finite min for static parameter number 3"),
        (LogTransform, "lower", "transform 'log' needs a finite min for static parameter number 3"),
    ],
)
def test_a_bijection_needs_its_bounds(transform, side, message):
    bounds = chain()
    getattr(bounds, side)[2] = -math.inf if side == "lower" else math.inf
    with pytest.raises(ParameterTableError, match=message):
        transform(scaler(), bounds)


def test_clip_moves_the_bounding_parameter_first():
    clipped = chain().clip(torch.tensor([0.5, 2.0, 0.7, 1.0, -6.0], dtype=torch.float64))
    assert clipped.tolist() == [0.5, 0.7, 0.7, 0.1, -5.0]
    clipped = chain().clip(torch.tensor([5.0, 2.0, 3.0, 0.0, 0.0], dtype=torch.float64))
    assert clipped.tolist() == [0.9, 0.9, 0.9, 1e-4, 0.0]


def test_clip_is_a_projection():
    torch.manual_seed(0)
    bounds, values = chain(), torch.randn(500, 5, dtype=torch.float64) * 3
    once = bounds.clip(values)
    lower, upper = bounds.resolve(once)
    assert bool(((lower <= once) & (once <= upper)).all())
    assert torch.equal(bounds.clip(once), once)
    assert torch.equal(bounds.clip(inside(50)), inside(50))


def test_clip_keeps_what_is_not_a_number_visible():
    assert math.isnan(chain().clip(torch.full((5,), math.nan, dtype=torch.float64))[2].item())


def test_a_lower_bound_may_name_another_parameter():
    bounds = Bounds(torch.tensor([0.0, -math.inf]), torch.tensor([1.0, 2.0]), [-1, 0], None)  # x0 <= x1 <= 2
    assert bounds.clip(torch.tensor([[0.5, 0.2], [0.5, 1.5], [9.0, 0.0]])).tolist() == [[0.5, 0.5], [0.5, 1.5], [1.0, 1.0]]
    assert [side.tolist() for side in bounds.resolve(torch.tensor([0.5, 1.5]))] == [[0.0, 0.5], [1.0, 2.0]]


def test_resolve_does_not_change_the_bounds():
    bounds = chain()
    bounds.resolve(inside(3))
    assert bounds.upper[:2].tolist() == [math.inf, math.inf]


@pytest.mark.parametrize(
    ("lower_from", "upper_from", "numbers"),
    [
        ([-1, -1, -1], [1, 0, -1], "1, 2"),
        ([-1, -1, -1], [1, 2, 0], "1, 2, 3"),
        ([2, -1, -1], [-1, -1, 0], "1, 3"),
    ],
)
def test_bounds_in_a_circle(lower_from, upper_from, numbers):
    with pytest.raises(ParameterTableError, match=f"static parameters number {numbers} name each other in a circle"):
        Bounds(torch.zeros(3), torch.ones(3), lower_from, upper_from)


def test_a_chain_is_resolved_whatever_its_order():
    # x2 <= x0 <= x1 <= 0.9: the table's order says nothing about which bound must be known first
    bounds = Bounds(torch.zeros(3), torch.tensor([math.inf, 0.9, math.inf]), None, [1, -1, 0])
    assert bounds.dependent == [0, 2]
    assert bounds.clip(torch.tensor([3.0, 0.5, 4.0])).tolist() == [0.5, 0.5, 0.5]
