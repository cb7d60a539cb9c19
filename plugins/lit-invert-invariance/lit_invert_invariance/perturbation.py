r"""Small changes of the weather that nobody announces: what an instrument's calibration leaves unknown.

A change of unit that passes through a surrogate's spec and scalers changes nothing by construction, so it can steer nothing. What a
fit may notice, and should not lean on, is a change that nobody tells it of: a pyranometer that reads 2 % high all year. Each draw
here is one such set of instruments, one number a driver, the same on all days:

* a driver on a ratio scale (light, cloud, rain, humidity, wind, CO2) is multiplied by :math:`1 + s z`;
* a temperature, whose zero means nothing here, is shifted by :math:`s z` of its standard deviation in training;
* day length and the sun's height come from latitude and date, not from an instrument, and stay.

with :math:`z \sim N(0, 1)` and s the spread. No value is moved beyond the range seen in training, so that nothing extrapolates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from lit_invert import Evaluation, Variable
from lit_invert.errors import ConfigError

#: Units of a scale whose zero is a convention.
TEMPERATURE_UNITS = ("K", "degC")
#: Drivers that no instrument measures.
ASTRONOMICAL = ("day_length", "sun_noon")
#: How near a draw may come to probability zero or one, where a normal number is infinite.
_EDGE = 1e-6


def draw_factors(drivers: Sequence[Variable], draws: int, spread: float, seed: int) -> Tensor:
    """Draw what each driver is changed by: normal numbers from a scrambled Sobol sequence, zero where no instrument measures it.

    The sequence fills the space of all instruments evenly: 32 of its draws give the share of samples that notice to 0.01, where as
    many independent ones leave 0.03.

    Args:
        drivers: The F drivers of a surrogate's spec.
        draws: Number of draws D.
        spread: Standard deviation of a draw [-].
        seed: Seed; the same seed gives the same draws.

    Returns:
        A (D, F)-dim tensor in float64 [share of the value, or of the standard deviation of a temperature].

    Example:
        >>> draw_factors([Variable("wind", "m s-1"), Variable("day_length", "h")], 512, 0.02, seed=0).std(0)
        tensor([0.0200, 0.0000], dtype=torch.float64)
    """
    points = SobolEngine(len(drivers), scramble=True, seed=seed).draw(draws, dtype=torch.float64)
    numbers = torch.special.ndtri(points.clamp(_EDGE, 1 - _EDGE))
    measured = torch.tensor([driver.name not in ASTRONOMICAL for driver in drivers])
    return torch.where(measured, spread * numbers, 0.0)


def perturb(forcing: Tensor, drivers: Sequence[Variable], factors: Tensor) -> Tensor:
    """Return the weather as each draw of instruments would have reported it.

    Args:
        forcing: Drivers in physical units, (B, T, F).
        drivers: The F drivers of the surrogate's spec.
        factors: What each is changed by, (D, F), as :func:`draw_factors` returns.

    Returns:
        A (D, B, T, F)-dim tensor in the units of `forcing`; a value is never further outside the training range than it was.

    Example:
        >>> drivers = [Variable("tmp_2m", "K", std=10.0), Variable("wind", "m s-1", maximum=5.0), Variable("tcdc", "%")]
        >>> perturb(torch.tensor([[[280.0, 6.0, 50.0]]]).double(), drivers, torch.full((1, 3), 0.02)).round(decimals=6).tolist()
        [[[[280.2, 6.0, 51.0]]]]
    """
    std, minimum, maximum = (
        forcing.new_tensor(values)
        for values in (
            [driver.std for driver in drivers],
            [-torch.inf if driver.minimum is None else driver.minimum for driver in drivers],
            [torch.inf if driver.maximum is None else driver.maximum for driver in drivers],
        )
    )
    is_shifted = torch.tensor([driver.unit in TEMPERATURE_UNITS for driver in drivers], device=forcing.device)
    change = factors.to(forcing)[:, None, None, :] * torch.where(is_shifted, std, forcing)
    return torch.clamp(forcing + change, torch.minimum(forcing, minimum), torch.maximum(forcing, maximum))


def drivers_of(evaluation: Evaluation) -> tuple[Variable, ...]:
    """Return the drivers of the surrogate that simulated.

    Raises:
        ConfigError: If the fluxes come without one.
    """
    if evaluation.surrogate is None:
        raise ConfigError(
            "`invariance` simulates other weather, but these fluxes come without a surrogate. Leave the loss term out."
        )
    return evaluation.surrogate.spec.drivers


def simulate_perturbed(evaluation: Evaluation, factors: Tensor) -> Tensor:
    """Simulate an evaluation's members under each draw of instruments, in one batch.

    Args:
        evaluation: The members.
        factors: What each driver is changed by, (D, F).

    Returns:
        Fluxes, (D, B, T, V) [gC m-2 d-1].

    Raises:
        ConfigError: If the forcing is a dict of windows, or the evaluation has no surrogate.
    """
    if isinstance(evaluation.forcing, dict):
        names = ", ".join(evaluation.forcing)
        raise ConfigError(f"`invariance` perturbs drivers by name, but the forcing is a dict: {names}. Leave the loss term out.")
    weather = perturb(evaluation.forcing, drivers_of(evaluation), factors)
    draws, members = len(factors), len(evaluation.scaled)
    weather = weather.expand(draws, members, *weather.shape[2:]).flatten(0, 1)
    again = replace(evaluation, scaled=evaluation.scaled.repeat(draws, 1))
    fluxes: Tensor = again.simulate(weather).unflatten(0, (draws, members)).to(evaluation.simulated)
    return fluxes


@torch.no_grad()
def flux_scale(evaluation: Evaluation) -> Tensor:
    """Return by what each flux is divided to be scaled: a constant, whatever the parameters are.

    The standard deviation in the spec of a surrogate with scaled outputs, else that of the flux over the days that count, as
    simulated at the prior; one for a flux that does not vary there. A spread at the present parameters would reward those that
    inflate it.

    Args:
        evaluation: The members.

    Returns:
        A (1 or B, V)-dim tensor [gC m-2 d-1].
    """
    assert evaluation.surrogate is not None
    if evaluation.surrogate.spec.outputs_scaled:
        return evaluation.surrogate.flux_factor.abs()[None].to(evaluation.simulated)
    prior = evaluation.prior_scaled.reshape(-1, evaluation.scaled.shape[-1])
    at_prior = replace(evaluation, scaled=prior.expand(max(len(prior), len(evaluation.forcing)), -1))
    fluxes = at_prior.simulate(evaluation.forcing).to(evaluation.simulated).movedim(-1, 0)
    spread = torch.stack([evaluation.mean((f - evaluation.mean(f)[:, None]).square()).sqrt() for f in fluxes], dim=-1)
    return torch.where(spread > 0, spread, 1.0)
