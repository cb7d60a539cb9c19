"""The contract of a loss term, as a check."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck

from ..losses import Evaluation, LossTerm, Tangent
from ..problem import InversionProblem
from .toy import toy_problem


def check_loss_term(term: LossTerm, problem: InversionProblem | None = None) -> None:
    """Hold a loss term to what an inversion relies on.

    One finite number a member, of the inputs' precision; the same each time; inputs left as they are; members that do not see each
    other; no look at observations outside the mask, nor at days that are no part of the record; a gradient that agrees with finite
    differences in float64 and stays finite when fluxes are zero, when a day is missing and when a member has no observed day at
    all. Residuals, where the term declares them, whose squares sum to its value in each of these cases, and whose derivative is
    what `push_residuals` returns.

    Args:
        term: The term.
        problem: A small inversion in float64 to try it on; :func:`toy_problem` with 24 days when omitted. Terms that look up
            parameters by name want `toy_problem(n_days=24, names=(...))`.

    Raises:
        AssertionError: If a promise is broken; the message names the term and the promise.

    Example:
        >>> from lit_invert.losses import Misfit
        >>> check_loss_term(Misfit(multi_output=True))
    """
    label = f"loss term {getattr(term, 'name', type(term).__name__)!r}"
    assert isinstance(getattr(type(term), "name", None), str), f"{label}: the class has no attribute `name` with its unique name."
    problem = toy_problem(n_days=24) if problem is None else problem
    theta = _spread(problem)
    evaluation, tangent, _ = problem.push(theta)
    for case, seen in (
        ("with all days observed", evaluation),
        ("with days missing and uncertainties", _with_gaps(evaluation)),
        ("with all fluxes zero", replace(evaluation, simulated=torch.zeros_like(evaluation.simulated))),
    ):
        _check_value(term, seen, f"{label}, {case}")
        _check_members(term, seen, f"{label}, {case}")
        _check_gradient_is_finite(term, seen, f"{label}, {case}")
        if term.has_residuals:
            _check_residuals(term, seen, tangent, f"{label}, {case}")
    _check_mask(term, _with_gaps(evaluation), label)
    _check_finite_differences(term, _with_gaps(evaluation), label)
    _check_precision(term, evaluation, label)
    _check_days(term, evaluation, label)


def _spread(problem: InversionProblem) -> Tensor:
    """Return theta of three members around the prior, inside the bounds."""
    table = problem.space.table
    steps = torch.sin(torch.arange(3 * len(table), dtype=torch.float64) + 1).reshape(3, -1)
    return problem.space.to_theta(problem.space.bounds.clip(table.prior + 0.7 * steps * table.prior_sd)).detach()


def _with_gaps(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with one member fully observed, one on every other day, one never; NaN sigma where there is no day."""
    shape = evaluation.simulated.shape
    mask = torch.ones(shape, dtype=torch.bool)
    mask[1, ::2] = False
    mask[2] = False
    observed = torch.where(mask, evaluation.observed.expand(shape), 0.0)
    sigma = torch.where(mask, 0.5 + 0.1 * observed.square().clamp_max(9.0), torch.nan)
    return replace(evaluation, observed=observed, mask=mask, sigma=sigma)


def _check_value(term: LossTerm, evaluation: Evaluation, label: str) -> None:
    tensors = [value for f in fields(evaluation) if isinstance(value := getattr(evaluation, f.name), Tensor)]
    before = [value.clone() for value in tensors]
    with torch.no_grad():
        first, second = term(evaluation), term(evaluation)
    members = (evaluation.physical.shape[0],)
    assert isinstance(first, Tensor), f"{label}: returned {type(first).__name__}, expected a tensor."
    assert first.shape == members, f"{label}: returned shape {tuple(first.shape)}, expected {members}: one number a member."
    assert torch.isfinite(first).all(), f"{label}: returned {first.tolist()}, expected finite numbers."
    assert torch.equal(first, second), f"{label}: returned {first.tolist()}, then {second.tolist()} from the same inputs."
    for value, copy in zip(tensors, before, strict=True):
        assert torch.equal(value.nan_to_num(), copy.nan_to_num()), f"{label}: changes its inputs in place; work on copies."


def _check_members(term: LossTerm, evaluation: Evaluation, label: str) -> None:
    batch = evaluation.physical.shape[0]
    with torch.no_grad():
        together = term(evaluation)
        alone = torch.cat([term(_member(evaluation, i)) for i in range(batch)])
    assert torch.allclose(together, alone, rtol=1e-10, atol=1e-12), (
        f"{label}: {together.tolist()} for members together but {alone.tolist()} one by one; members must not see each other."
    )


def _member(evaluation: Evaluation, i: int) -> Evaluation:
    names = ("scaled", "physical", "simulated", "observed", "mask", "sigma", "forcing", "days", "lower", "upper")
    batched = [n for n in names if isinstance(v := getattr(evaluation, n), Tensor) and v.shape[0] > 1]
    one: dict[str, Any] = {name: getattr(evaluation, name)[i : i + 1] for name in batched}
    return replace(evaluation, **one)


def _check_mask(term: LossTerm, evaluation: Evaluation, label: str) -> None:
    elsewhere = torch.where(evaluation.mask, evaluation.observed, 1e3)
    with torch.no_grad():
        value, other = term(evaluation), term(replace(evaluation, observed=elsewhere))
    assert torch.equal(value, other), f"{label}: depends on observations where the mask is false; use torch.where(mask, ..., 0)."


def _check_days(term: LossTerm, evaluation: Evaluation, label: str) -> None:
    """Compare a record with one whose last days do not count, filled with other weather and fluxes."""
    days = torch.ones_like(evaluation.days)
    days[:, -days.shape[1] // 3 :] = False
    short = replace(evaluation, days=days, mask=evaluation.mask & days[..., None])
    beyond = torch.where(days[..., None], evaluation.simulated, 50.0)
    weather = evaluation.forcing
    other = torch.where(days[..., None], weather, 1e3) if isinstance(weather, Tensor) else weather
    with torch.no_grad():
        value, same = term(short), term(replace(short, simulated=beyond, forcing=other))
    assert torch.allclose(value, same, rtol=1e-12, atol=1e-14), (
        f"{label}: depends on days where `days` is false, which are no part of the record; use `evaluation.mean`."
    )


def _leaves(evaluation: Evaluation) -> list[Tensor]:
    inputs = (evaluation.simulated, evaluation.physical, evaluation.scaled)
    return [value.detach().clone().requires_grad_() for value in inputs]


def _at(evaluation: Evaluation, simulated: Tensor, physical: Tensor, scaled: Tensor) -> Evaluation:
    return replace(evaluation, simulated=simulated, physical=physical, scaled=scaled)


def _check_gradient_is_finite(term: LossTerm, evaluation: Evaluation, label: str) -> None:
    leaves = _leaves(evaluation)
    value = term(_at(evaluation, *leaves))
    assert value.requires_grad, f"{label}: has no gradient; do not detach or convert to numbers what depends on the parameters."
    gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    for name, gradient in zip(("simulated", "physical", "scaled"), gradients, strict=True):
        assert gradient is None or torch.isfinite(gradient).all(), (
            f"{label}: its gradient with respect to `{name}` is not finite; look for sqrt, log or a division at zero."
        )


def _check_finite_differences(term: LossTerm, evaluation: Evaluation, label: str) -> None:
    def value(simulated: Tensor, physical: Tensor, scaled: Tensor) -> Tensor:
        result: Tensor = term(_at(evaluation, simulated, physical, scaled))
        return result

    try:
        gradcheck(value, _leaves(evaluation))
    except RuntimeError as error:
        raise AssertionError(f"{label}: its gradient disagrees with finite differences. {error}") from error


def _check_residuals(term: LossTerm, evaluation: Evaluation, tangent: Tangent, label: str) -> None:
    with torch.no_grad():
        residuals, value = term.residuals(evaluation), term(evaluation)
    assert residuals is not None, f"{label}: overrides `residuals` but returned None."
    is_table = residuals.dim() == 2 and len(residuals) == len(value)
    assert is_table, f"{label}: its residuals have shape {tuple(residuals.shape)}, expected ({len(value)}, any)."
    assert torch.allclose(residuals.square().sum(-1), value, rtol=1e-9, atol=1e-12), (
        f"{label}: the squares of its residuals sum to {residuals.square().sum(-1).tolist()} but its value is {value.tolist()}."
    )
    _check_push(term, evaluation, tangent, label)


def _check_push(term: LossTerm, evaluation: Evaluation, tangent: Tangent, label: str) -> None:
    with torch.no_grad():
        pushed = term.push_residuals(evaluation, tangent)
    slope = LossTerm.push_residuals(term, evaluation, tangent)
    assert pushed.shape == slope.shape, f"{label}: `push_residuals` returned {tuple(pushed.shape)}, expected {tuple(slope.shape)}."
    assert torch.allclose(pushed, slope, rtol=1e-7, atol=1e-9), (
        f"{label}: `push_residuals` disagrees with the derivative of `residuals` by {(pushed - slope).abs().max().item():.1e}."
    )


def _check_precision(term: LossTerm, evaluation: Evaluation, label: str) -> None:
    values = {f.name: getattr(evaluation, f.name) for f in fields(evaluation)}
    floats: dict[str, Any] = {n: v.float() for n, v in values.items() if isinstance(v, Tensor) and v.is_floating_point()}
    with torch.no_grad():
        value, residuals = term(replace(evaluation, **floats)), term.residuals(replace(evaluation, **floats))
    assert value.dtype == torch.float32, f"{label}: returned {value.dtype} from float32 inputs; keep the inputs' precision."
    assert residuals is None or residuals.dtype == torch.float32, (
        f"{label}: its residuals are {residuals.dtype} from float32 inputs; keep the inputs' precision."
    )
