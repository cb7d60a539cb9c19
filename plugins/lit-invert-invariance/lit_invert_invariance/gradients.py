r"""Does the gradient that an inversion follows belong to the fluxes that it sees?

A surrogate can simulate well and still not be invertible: a parameter whose path was cut (`detach`, numpy, a rounded index) has
the gradient zero and never moves, and a faulty derivative leads elsewhere. So autograd is held against central differences, both
in float64, at points of the prior. At each point the fluxes y are projected on one random direction w, so that opposite signs of
different fluxes and days do not cancel, and one number comes out for each parameter,

.. math:: e_i = \frac{|g_i - d_i|}{\max(\lVert g \rVert, \lVert d \rVert)}, \qquad
    g = \frac{\partial\, w^\top y}{\partial z}, \quad d_i = w^\top \frac{y(z + h e_i) - y(z - h e_i)}{2 h}

relative to the whole gradient, since a component that is next to nothing is mostly rounding. Steps are :math:`h = 10^{-6}` of a
scaled parameter: far above rounding in float64, and seldom across a kink of the network.

Inversions take their derivatives from a faster path, tangents in the problem's own precision, from a kernel where there is one. It
is held against the same differences with a wider tolerance: kernels in float32 are off by some 1e-6, those in bfloat16 by some
1e-3, and one-sided differences of a surrogate without a kernel by up to 2e-2, which still lead downhill.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lit_invert import InversionProblem, RunInfo, Site, Verdict
from lit_invert.errors import first_names

from .points import prior_points
from .settings import settings_of
from .simulation import in_precision

#: Name of the check; `gradient` is a quicker one that the core asks before every fit.
NAME = "gradient_soundness"
#: Largest error of autograd, as a share of the gradient's norm [-].
AUTOGRAD_TOLERANCE = 1e-5
#: The same of the tangents that inversions use [-].
TANGENT_TOLERANCE = 0.05
#: Most days after the warm-up that the fluxes are simulated for: every season.
DAYS = 366
#: Step of a difference, of a scaled parameter in float64 [-].
STEP = 1e-6
_SHOWN = 10


def check_gradient(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict | None:
    """Ask whether autograd and the tangents of an inversion agree with central differences in float64.

    Failure above 1e-5 of the gradient's norm for autograd and 0.05 for tangents. Advice where the surrogate does not
    compute in float64, where its gradient is zero at every point, or not finite because its fluxes are not; None where the forcing
    is a dict of windows.
    """
    if isinstance(problem.forcing, dict):
        return None
    short = _first_days(problem, problem.forcing)
    simulate = in_precision(short, torch.float64)
    if simulate is None:
        return Verdict(NAME, "advice", "the surrogate does not compute in float64, so its gradient was not compared.")
    settings = settings_of(run)
    points = prior_points(short, settings.points, settings.seed)
    found = [compare(short, simulate, point, settings.seed + i) for i, point in enumerate(points)]
    errors = [error for error in found if error is not None]
    if not errors:
        return Verdict(
            NAME, "advice", "no gradient was compared: at every point it is zero, or fluxes that are not finite spoil it."
        )
    return _judge(torch.stack(errors).amax(0), problem.space.table.names, len(found) - len(errors))


def compare(problem: InversionProblem, simulate: Callable[[Tensor], Tensor], point: Tensor, seed: int) -> Tensor | None:
    """Return the errors of autograd and of tangents at one point.

    Args:
        problem: Whose simulator pushes the tangents.
        simulate: Its simulation in float64, of scaled parameters (B, P).
        point: Scaled parameters, (P,) [-].
        seed: Of the projection.

    Returns:
        Errors (2, P), autograd's first, as shares of the gradient's norm; a slope that is no number counts as an error of one. None
        where such a slope comes with fluxes that are no numbers either, and where every slope is zero.
    """
    exact, steps = point.double(), STEP * torch.eye(len(point), dtype=torch.float64)
    with torch.no_grad():
        simulated = simulate(torch.cat([exact + steps, exact - steps]))
    is_finite = torch.isfinite(simulated).all(0) | ~problem.days[0, :, None]
    is_used = is_finite & problem.days[0, :, None]
    weights = torch.randn(is_finite.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def project(fluxes: Tensor) -> Tensor:
        return (torch.where(is_used, fluxes, 0.0) * weights).sum((-2, -1))

    ahead, behind = simulated.chunk(2)
    differences = project(ahead - behind) / (2 * STEP)
    slopes = torch.stack([_autograd(lambda z: project(simulate(z)), exact), project(_tangents(problem, point))])
    if not is_finite.all() and not torch.isfinite(slopes).all():
        return None
    size = torch.maximum(slopes.norm(dim=1, keepdim=True), differences.norm())
    if not size.any():
        return None
    size = size.clamp_min(torch.finfo(torch.float64).tiny)
    return ((slopes - differences).abs() / size).nan_to_num(1.0, 1.0)


def _first_days(problem: InversionProblem, forcing: Tensor) -> InversionProblem:
    """Return the problem of the first days, whose simulator knows no other day."""
    warmup = int(problem.days[0].int().argmax())
    days = min(forcing.shape[1], max(warmup + DAYS, problem.surrogate.spec.shortest_run))
    return problem.first(days).variant(forcing=forcing[:, :days])


def _autograd(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """Return the gradient at one point, (P,); zero where no path leads to the parameters."""
    leaf = point[None].requires_grad_()
    with torch.enable_grad():
        value = function(leaf).sum()
    if not value.requires_grad:
        return torch.zeros_like(point)
    (gradient,) = torch.autograd.grad(value, leaf, materialize_grads=True)
    return gradient[0]


def _tangents(problem: InversionProblem, point: Tensor) -> Tensor:
    """Return the derivatives that an inversion uses, (P, T, V), in float64."""
    _, tangents = problem.simulator.push(point[None], torch.eye(len(point)).to(point)[None])
    return tangents[0].movedim(-1, 0).double()


def _judge(errors: Tensor, names: tuple[str, ...], left_out: int) -> Verdict:
    """Judge the largest errors of each parameter, (2, P), over all points but those left out."""
    autograd, tangents = errors.amax(1).tolist()
    rows = sorted(zip(names, *errors.tolist(), strict=True), key=lambda row: -max(row[1:]))
    table = [{"parameter": name, "autograd": error, "tangents": other} for name, error, other in rows[:_SHOWN]]
    details = {
        "autograd": autograd,
        "tangents": tangents,
        "tangent_tolerance": TANGENT_TOLERANCE,
        "points_left_out": left_out,
        "table": table,
    }
    for way, worst, error, limit in (
        ("autograd", autograd, errors[0], AUTOGRAD_TOLERANCE),
        ("the tangents of an inversion", tangents, errors[1], TANGENT_TOLERANCE),
    ):
        if worst > limit:
            wrong = [name for name, value in zip(names, error.tolist(), strict=True) if value > limit]
            message = (
                f"the gradient for {first_names(wrong)} is wrong: {way} and central differences differ by up to "
                f"{worst:.1e} of its norm. Look for a path that is cut: detach, no_grad, numpy, rounding."
            )
            return Verdict(NAME, "fail", message, worst, limit, details)
    message = (
        f"central differences agree with autograd to {autograd:.1e} of the gradient, "
        f"with the tangents of an inversion to {tangents:.1e}."
    )
    return Verdict(NAME, "pass", message, autograd, AUTOGRAD_TOLERANCE, details)
