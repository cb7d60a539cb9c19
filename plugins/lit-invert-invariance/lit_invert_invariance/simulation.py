"""Simulations that a validation compares: of other parameters, in other weather, in another precision.

None of them has a gradient, but the one in another precision can be given one: it is what a gradient is held against.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from lit_invert import InversionProblem

from .points import prior_point


def simulate_scaled(problem: InversionProblem, scaled: Tensor) -> Tensor:
    """Simulate at scaled parameters (B, P), without gradients: fluxes (B, T, V) [gC m-2 d-1]."""
    with torch.no_grad():
        simulated: Tensor = problem.simulator(scaled)
    return simulated


def simulate_counted(problem: InversionProblem, scaled: Tensor) -> Tensor:
    """Simulate likewise, and return the D days that count alone: not those of the warm-up, (B, D, V) [gC m-2 d-1]."""
    return simulate_scaled(problem, scaled)[:, problem.days[0]]


def simulate_weathers(problem: InversionProblem, forcing: Tensor) -> Tensor:
    """Simulate the prior under W weathers (W, T, F): fluxes on the D days that count, (W, D, V) [gC m-2 d-1]."""
    return simulate_counted(problem.variant(forcing=forcing), prior_point(problem).repeat(len(forcing), 1))


def in_precision(problem: InversionProblem, dtype: torch.dtype) -> Callable[[Tensor], Tensor] | None:
    """Return the simulation of a problem in another precision, by a copy of its surrogate.

    Args:
        problem: The problem, which stays as it is.
        dtype: The precision.

    Returns:
        A function of scaled parameters (B, P) of this precision that simulates fluxes (B, T, V) [gC m-2 d-1] and can be
        differentiated; None where the network does not compute in it, as one that was recorded for another precision.

    Example:
        >>> from lit_invert.testing import toy_problem
        >>> simulate = in_precision(toy_problem(n_days=30), torch.float32)
        >>> simulate(torch.zeros(2, 3)).shape
        torch.Size([2, 30, 4])
    """
    forcing = problem.forcing
    try:
        surrogate = copy.deepcopy(problem.surrogate).to(dtype)
        prepared = surrogate.prepare(
            {name: part.to(dtype) for name, part in forcing.items()} if isinstance(forcing, dict) else forcing.to(dtype)
        )
        with torch.no_grad():  # of the network alone: scalers would bring what it gives to this precision
            given = surrogate.static_scaler.mean.new_zeros(1, len(surrogate.spec.statics))
            simulated = surrogate.network(
                given if surrogate.spec.static_scaled else surrogate.static_scaler.to_physical(given), prepared
            )
    except Exception:  # whatever a network's own code raises in a precision that it was not written for
        return None
    return (lambda scaled: surrogate(scaled, prepared)) if simulated.dtype == dtype else None
