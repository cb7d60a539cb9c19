r"""The weight of the prior that its own standard deviations ask for: `lambda_prior: derived`.

The fit's misfit is a mean square. With a prior in units of its standard deviation the fit's loss is minus twice a log posterior,
times :math:`\lambda`, when the prior's weight is

.. math:: \lambda_{prior} = \sigma^2 / n_{eff}

(:mod:`lit_invert.posterior.noise`). Variance and effective number of days are those of the residuals at a pilot mode, so the weight
is known only once the data have been looked at; it stays what it is during the fit.
"""

from __future__ import annotations

from torch import Generator

from ..problem import InversionProblem
from .descents import deepest
from .noise import derived_lambda
from .target import find_mode

#: Draws of the prior from which the pilot mode is looked for.
_PILOTS = 16


def derive_prior_weight(problem: InversionProblem, target: str) -> tuple[float, str]:
    """Return the weight of the prior of one site's fit, and how it was derived, in words.

    Args:
        problem: The problem of the fit, whatever weight its prior has now.
        target: The flux that is fitted.
    """
    mode = find_mode(problem, problem.space.to_theta(problem.space.priors), target)
    mode = find_mode(problem, deepest(mode, _PILOTS, Generator().manual_seed(0)), target)
    noise = mode.noise[target]
    variance, days = noise.variance.item(), noise.n_eff.item()
    weight = derived_lambda(variance, days)
    return (
        weight,
        f"lambda_prior {weight:.2g} derived from a noise of {variance**0.5:.2g} gC m-2 d-1 over {days:.0f} independent days",
    )
