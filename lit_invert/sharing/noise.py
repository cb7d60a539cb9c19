r"""From a misfit to a likelihood: how much a mean over days is worth.

A misfit is a mean of squares, so its scale says nothing of how sure it is. Were the n residuals of a site independent, of variance
:math:`\sigma^2`, minus twice the logarithm of its likelihood were :math:`n\,L / \sigma^2`: the misfit over

.. math:: \lambda = \frac{\sigma^2}{n_e}, \qquad n_e = n \frac{1 - \rho}{1 + \rho}

with n itself in place of the effective :math:`n_e`. But a model that is wrong today is wrong tomorrow. Residuals with a memory
:math:`\rho` of one day, an autoregressive process of first order, are worth :math:`n_e` independent ones. Their variance follows
from the misfit where the fit has used up k degrees of freedom, :math:`\sigma^2 = L\,n_e / (n_e - k)`, so that

.. math:: \lambda = \frac{L}{n_e - k}

Source:
    Bayley and Hammersley (1946), J. R. Stat. Soc. Suppl. 8(2), 184-197, doi:10.2307/2983560 (effective number of observations).
    MacKay (1992), Neural Computation 4(3), 415-447, doi:10.1162/neco.1992.4.3.415 (degrees of freedom that the data determine).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from ..losses.misfit import Misfit
from ..problem import InversionProblem

#: Largest memory of a day that is believed: above it a season would count as one observation.
MOST_MEMORY = 0.98
#: Error below which no flux is known [gC m-2 d-1]; a twin without noise has residuals of nothing.
LEAST_ERROR = 1e-3


def memory_of(residuals: Tensor) -> Tensor:
    r"""Return the correlation of the residuals of one day and the next, common to all sites.

    .. math:: \rho = \frac{\sum_s \sum_t r_{st} r_{s,t+1}}{\sum_s \sum_t (r_{st}^2 + r_{s,t+1}^2) / 2}

    over pairs of observed days, with each site's residuals in units of their own root mean square. One site alone has too few days
    to tell; a negative correlation counts as none.

    Args:
        residuals: A (S, N)-dim tensor, exactly zero where there is no observation.

    Returns:
        A scalar between 0 and :data:`MOST_MEMORY`.

    Example:
        >>> memory_of(torch.tensor([[1.0, 1.0, 1.0, -1.0, -1.0, 0.0, 5.0]])).item()
        0.5
    """
    observed = residuals != 0
    unit = residuals / (residuals.square().sum(-1, keepdim=True) / observed.sum(-1, keepdim=True).clamp_min(1)).sqrt().clamp_min(
        torch.finfo(residuals.dtype).tiny
    )
    now, then = unit[:, :-1], unit[:, 1:]
    pairs = observed[:, :-1] & observed[:, 1:]
    size = (pairs * (now.square() + then.square())).sum() / 2
    return ((pairs * now * then).sum() / size.clamp_min(torch.finfo(residuals.dtype).tiny)).clamp(0.0, MOST_MEMORY)


@torch.no_grad()
def scale_of(problem: InversionProblem, theta: Tensor, used: Tensor, sites: Tensor | None = None) -> Tensor:
    r"""Return :math:`\lambda` of each site, (S,): its loss over this is minus twice the logarithm of its likelihood.

    Args:
        problem: The problem of the sites.
        theta: Their fitted parameters, (S, P).
        used: Degrees of freedom that each fit has used up, (S,).
        sites: Which members of the problem they are, (S,); None: all, in order.

    Raises:
        ConfigError: If the misfit is no sum of squares.
    """
    misfit = next((term for term in problem.loss_terms if term.name == Misfit.name), None)
    residuals = None if misfit is None else misfit.residuals(problem.evaluate(theta, sites))
    if misfit is None or residuals is None:
        raise ConfigError(
            "`sharing`: hierarchical parameters need a loss term `misfit` that declares residuals. Use group instead."
        )
    residuals = residuals.double()
    memory = memory_of(residuals)
    days = (residuals != 0).sum(-1) * (1 - memory) / (1 + memory)
    mean_square = misfit.weight * residuals.square().sum(-1).clamp_min(LEAST_ERROR**2)
    return mean_square / (days - used).clamp_min(1.0)
