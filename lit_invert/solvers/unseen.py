r"""Curvature for the parameters of which none is known yet.

The Gauss-Newton matrix is blind to a parameter that only terms without residuals see: its diagonal is zero there, and a step along
the gradient would have no end. Until its curvature is learned such parameters take steepest descent's first step, of length one.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Curvature, as a share of the largest, below which a parameter counts as unseen.
LEAST_SCALE = 1e-10


def lift_unseen(hessian: Tensor, gradient: Tensor) -> Tensor:
    r"""Return a Hessian whose diagonal is nowhere without curvature where there is a slope to follow.

    .. math:: H_{ii} \leftarrow \max(H_{ii}, \|g_U\|) \quad\text{for}\quad i \in U = \{i : H_{ii} \le 10^{-10} \max_j H_{jj}\}

    Args:
        hessian: H, (b, P, P).
        gradient: g, (b, P).

    Returns:
        The lifted Hessian, (b, P, P); the same where every parameter has curvature.

    Example:
        >>> lift_unseen(torch.diag(torch.tensor([2.0, 0.0, 0.0]))[None], torch.tensor([[9.0, 3.0, 4.0]])).diagonal(dim1=1, dim2=2)
        tensor([[2., 5., 5.]])
    """
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    unseen = diagonal <= LEAST_SCALE * diagonal.amax(-1, keepdim=True)
    length = (gradient * unseen).norm(dim=-1, keepdim=True)
    return hessian + torch.diag_embed((length - diagonal).clamp_min(0.0) * unseen)
