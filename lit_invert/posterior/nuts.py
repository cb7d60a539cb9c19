r"""The posterior itself by the no-U-turn sampler: what Laplace and randomised fits are held against.

The sampler is Pyro's, since it is torch's own: the potential is the loss of the problem, with its gradient by the same backward
pass through the frozen surrogate that fits use. Samplers in JAX would want the surrogate in JAX.

Hamiltonian dynamics know no walls, so bounds are removed by a change of variables, and its volume is part of the potential:

.. math:: u_i = l_i + (h_i - l_i)\, \sigma(x_i), \qquad
    U(x) = -\log p(u(x) \mid o) - \sum_i \log \left[ (h_i - l_i)\, \sigma(x_i)\, \sigma(-x_i) \right]

Parameters differ by orders of magnitude in how well the data know them, and trade off. The coordinates of the sampler are therefore
:math:`x = m + C z`, with the minimum m of U and its inverse curvature there, :math:`C C^T`, for a likelihood that is linear:
z is nearly standard normal, and warm-up has little left to learn.

Sources:
    Hoffman and Gelman (2014), J. Mach. Learn. Res. 15, 1593-1623, for the sampler.
    Bingham et al. (2019), J. Mach. Learn. Res. 20(28), 1-6, for Pyro.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import logsigmoid

from ..errors import ConfigError
from .target import Mode, to_theta, unit_bounds

#: Chains, one after the other, and steps of each that tune the sampler and are thrown away.
CHAINS, WARM_UP = 2, 200
#: Distance of a bound that is missing from the prior, in its standard deviations: no draw ever goes there.
_FAR = 10.0
#: How far inside its bounds the search for the centre starts, as a share of their distance.
_INSIDE = 0.02
#: Most doublings of a trajectory.
_DEPTH = 8


@dataclass(frozen=True)
class Chains:
    """Draws of C chains, and whether they may be believed."""

    units: Tensor
    """(C, N, P), float64, in prior units; zero at fixed parameters."""
    rhat: Tensor
    """Split R-hat of each free parameter, (K,): more than 1.05 is a warning."""
    ess: Tensor
    """Effective number of draws of each free parameter, (K,)."""
    divergences: int
    """Trajectories that left the energy surface."""

    @property
    def draws(self) -> Tensor:
        """All draws, (C N, P)."""
        return self.units.flatten(0, 1)


@dataclass(frozen=True)
class Coordinates:
    """The sampler's coordinates z of K free parameters."""

    lower: Tensor
    """Lower bounds in prior units, (K,)."""
    width: Tensor
    """Upper less lower bounds, (K,)."""
    centre: Tensor
    """m, (K,)."""
    factor: Tensor
    """C, (K, K), lower triangular."""

    def to_units(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return parameters in prior units, (..., K), and the logarithm of the volume that z has there, (...), up to a constant."""
        x = self.centre + z @ self.factor.T
        return self.lower + self.width * x.sigmoid(), (logsigmoid(x) + logsigmoid(-x)).sum(-1)


def sample(mode: Mode, count: int, generator: Generator) -> Tensor:
    """Draw from the posterior of one site, as often as asked over all chains, (count, P), in prior units."""
    return sample_chains(mode, -(-count // CHAINS), generator, CHAINS, WARM_UP).draws[:count]


def sample_chains(mode: Mode, count: int, generator: Generator, chains: int = CHAINS, warm_up: int = WARM_UP) -> Chains:
    """Draw from the posterior of one site by NUTS.

    Args:
        mode: The mode of the posterior.
        count: Number of draws of each chain, 4 or more.
        generator: Source of randomness, on the CPU.
        chains: Number of chains, each from a start of its own around the mode.
        warm_up: Steps that tune the sampler.

    Raises:
        ConfigError: If Pyro is not installed, or a bound names another parameter.
    """
    mcmc_module = import_pyro()
    coordinates = coordinates_at(mode)
    potential = _Potential(mode, coordinates)
    found, divergences = [], 0
    for _ in range(chains):
        start = torch.randn(len(mode.free), generator=generator, dtype=torch.float64)
        seed = int(torch.randint(2**31, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            kernel = mcmc_module.NUTS(potential_fn=potential, max_tree_depth=_DEPTH)
            mcmc = mcmc_module.MCMC(kernel, count, warm_up, initial_params={"z": start}, disable_progbar=True)
            mcmc.run()
        found.append(coordinates.to_units(mcmc.get_samples()["z"].detach())[0])
        divergences += sum(len(places) for places in mcmc.diagnostics()["divergences"].values())
    free = torch.stack(found)
    units = free.new_zeros(chains, count, mode.units.shape[1])
    units[..., mode.free] = free
    return Chains(units, *diagnose(free), divergences)


def diagnose(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Return split R-hat and effective number of draws, (K,) each, of chains (C, N, K)."""
    import_pyro()
    from pyro.ops.stats import effective_sample_size, split_gelman_rubin

    return split_gelman_rubin(draws), effective_sample_size(draws)


def coordinates_at(mode: Mode) -> Coordinates:
    """Return coordinates in which the posterior of one site is nearly standard normal.

    Raises:
        ConfigError: If a bound names another parameter.
    """
    if mode.problem.space.bounds.dependent:
        raise ConfigError(
            "NUTS wants bounds that are numbers, but the table has bounds that name other parameters. Use method: rml."
        )
    lower, upper = (side[0, mode.free].clamp(-_FAR, _FAR) for side in unit_bounds(mode.problem, mode.theta))
    precision, optimum = mode.precision[0], mode.units[0, mode.free]

    def energy(x: Tensor) -> Tensor:
        away = lower + (upper - lower) * x.sigmoid() - optimum
        return away @ (mode.gradient[0] + 0.5 * precision @ away) - (logsigmoid(x) + logsigmoid(-x)).sum()

    centre = _lowest(energy, ((optimum - lower) / (upper - lower)).clamp(_INSIDE, 1 - _INSIDE).logit())
    share = centre.sigmoid()
    slope = (upper - lower) * share * (1 - share)
    curvature = slope[:, None] * precision * slope + torch.diag(1 - 2 * share * (1 - share))  # where the energy is lowest
    return Coordinates(lower, upper - lower, centre, torch.linalg.cholesky(torch.linalg.inv(curvature)))


@torch.enable_grad()
def _lowest(energy: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return where a smooth function of few numbers is lowest."""
    x = nn.Parameter(start)
    solver = torch.optim.LBFGS([x], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        value = energy(x)
        value.backward()
        return value

    solver.step(closure)
    return x.detach()


class _Potential:
    """Minus the log posterior in the sampler's coordinates, as Pyro wants it."""

    def __init__(self, mode: Mode, coordinates: Coordinates) -> None:
        self._mode, self._coordinates = mode, coordinates

    def __call__(self, parameters: dict[str, Tensor]) -> Tensor:
        free, volume = self._coordinates.to_units(parameters["z"])
        units = torch.zeros_like(self._mode.units).index_copy(1, self._mode.free, free[None])
        loss: Tensor = self._mode.problem(to_theta(self._mode.problem, units)).total[0]
        return 0.5 * loss.double() - volume


def import_pyro() -> Any:
    """Return Pyro's module of samplers.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        from pyro.infer import mcmc
    except ImportError:
        raise ConfigError('NUTS needs Pyro. Run: pip install "lit-invert[nuts]", or use another method.') from None
    return mcmc
