r"""Curvature of the terms that are no sum of squares, learned from the changes of their gradient.

Gauss-Newton knows the curvature of squared residuals and of nothing else. The rest of the loss, with gradient :math:`q`, has a
Hessian that no one computes; after a step :math:`s` one does know what it did to that step, :math:`S s \approx y^\# = q_{new} -
q_{old}`. The structured secant update changes S as little as this asks, in the norm of the whole problem's curvature, for which
:math:`y`, the change of the whole gradient, stands.

Source:
    Dennis, Gay and Welsch (1981), An adaptive nonlinear least-squares algorithm, ACM TOMS 7(3), 348-368,
    doi:10.1145/355958.355965.
"""

from __future__ import annotations

import torch
from torch import Tensor


def structured_update(correction: Tensor, step: Tensor, change: Tensor, whole_change: Tensor) -> Tensor:
    r"""Return S after a step, with the sizing of NL2SOL before the update.

    .. math:: S_+ = \tau S + \frac{w y^T + y w^T}{y^T s} - \frac{s^T w}{(y^T s)^2} y y^T,
        \quad w = y^\# - \tau S s, \quad \tau = \min(1, |s^T y^\#| / |s^T S s|)

    Sizing shrinks an S that has become too large for the terms as they are now. An S that is still zero starts as the mean
    curvature along the step, in all directions. A member whose whole gradient did not grow along its step keeps its S.

    Args:
        correction: S, (b, P, P).
        step: s, (b, P).
        change: Change of the gradient of the terms without residuals, (b, P).
        whole_change: Change of the whole gradient, (b, P).

    Returns:
        The new S, (b, P, P), symmetric, with S s = `change` where it was updated.
    """
    sized = _sized(correction, step, change)
    missing = change - (sized @ step[..., None])[..., 0]
    growth = (whole_change * step).sum(-1)
    usable = growth > 1e-10 * step.norm(dim=-1) * whole_change.norm(dim=-1)
    y = whole_change / growth.where(usable, 1.0)[:, None]
    outer = missing[:, :, None] * y[:, None, :]
    along = (step * missing).sum(-1)[:, None, None]
    updated = sized + outer + outer.mT - along * y[:, :, None] * y[:, None, :]
    return updated.where(usable[:, None, None], correction)


def _sized(correction: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """Return S times tau, or its start where it is zero."""
    along = (step * change).sum(-1)[:, None, None]
    old = (step[:, None] @ correction @ step[..., None]).abs()
    size = torch.where(old > 0, along.abs() / old, 1.0).clamp_max(1.0)
    mean_curvature = (along / step.square().sum(-1)[:, None, None]).clamp_min(0.0).nan_to_num(0.0)
    start = mean_curvature * torch.eye(step.shape[-1], dtype=step.dtype, device=step.device)
    untaught = (correction == 0).all(-1, keepdim=True).all(-2, keepdim=True)
    return torch.where(untaught, start, size * correction)
