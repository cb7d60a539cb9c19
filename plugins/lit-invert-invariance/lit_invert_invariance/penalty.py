r"""A price on leaning on the weather: how much the prediction changes when instruments are off by a little.

The penalty asks for parameters at which the simulated fluxes hardly notice a small error of the drivers that nobody announces. It
is no regularisation towards the prior: it knows no parameter's value, only what the surrogate makes of it.
"""

from __future__ import annotations

from torch import Tensor

from lit_invert import Evaluation, LossTerm
from lit_invert.errors import ConfigError

from .perturbation import draw_factors, drivers_of, flux_scale, simulate_perturbed


class Invariance(LossTerm):
    r"""Mean squared change of the scaled prediction under small unannounced changes of the drivers, per squared spread of these.

    .. math:: L = \frac{1}{s^2 D V |T|} \sum_{d=1}^{D} \sum_{v=1}^{V} \sum_{t \in T}
        \left( \frac{f_{tv}(\theta, x \cdot (1 + s z_d)) - f_{tv}(\theta, x)}{\sigma_v} \right)^2

    The draws z are fixed, so the loss is a function of theta alone, whose gradient is exact. Divided by the squared spread the
    value hardly depends on s: it is a mean squared elasticity, one where a change of 1 % moves the fluxes by 1 % of their spread,
    so that weights from 0.01 to 1 mean something beside a misfit. Which driver is changed how:
    :mod:`lit_invert_invariance.perturbation`.

    Declares no residuals: their tangents would take a batch of simulations a draw, and solvers learn the curvature from gradients.

    Args:
        weight: Factor of the term in the total; the first lambda where it is steered.
        spread: Standard deviation s of a change [-].
        draws: Number of draws D, each one more simulation.
        seed: Seed of the draws.

    Raises:
        ConfigError: If there is no draw, or no spread.
    """

    name = "invariance"

    def __init__(self, weight: float = 0.1, spread: float = 0.02, draws: int = 4, seed: int = 0) -> None:
        super().__init__(weight)
        if draws < 1:
            raise ConfigError(f"loss term {self.name!r}: draws is {draws!r}, expected 1 or more.")
        if not 0 < spread < 1:
            raise ConfigError(f"loss term {self.name!r}: spread is {spread!r}, expected a share above 0 and below 1, such as 0.02.")
        self.spread, self.draws, self.seed = spread, draws, seed

    def forward(self, evaluation: Evaluation) -> Tensor:
        """Return the penalty of each member, a (B,)-dim tensor [-]."""
        factors = draw_factors(drivers_of(evaluation), self.draws, self.spread, self.seed)
        change = simulate_perturbed(evaluation, factors) - evaluation.simulated
        scaled = change / (self.spread * flux_scale(evaluation)[:, None])
        return evaluation.mean(scaled.square().mean(dim=(0, -1)))
