"""A first simulation of a network that was just loaded, so that one that does not fit its spec fails before a fit begins.

Two members go through average weather, side by side and each alone. An inversion runs many members at once, so a member must not
notice the others: a graph recorded with a batch of one may fail, or give the first member's fluxes to all. A network on which the
static parameters have no influence is refused too, since there is nothing to invert.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import LitInvertError, SurrogateError
from ..transforms import Scaler
from .base import Forcing, FrozenSurrogate, Variable
from .weights import first_line

#: Days of the dry run of a network that is not tied to a length.
_DRY_DAYS = 30
#: How far a member may differ beside others: rounding, as shares of the spread of an output and of its size.
_OF_SPREAD, _OF_SIZE = 1e-4, 1e-5


def check_fits(surrogate: FrozenSurrogate) -> None:
    """Simulate two members through average weather, together and alone.

    Raises:
        SurrogateError: If scaling or fluxes are not finite, the network cannot take what the spec says, its members depend on each
            other, or its fluxes do not depend on the static parameters.
    """
    spec = surrogate.spec
    _check_scaling(surrogate.static_scaler, spec.statics, f"surrogate {spec.name!r}: static parameter")
    _check_scaling(surrogate.forcing_scaler, spec.drivers, f"surrogate {spec.name!r}: driver")
    members = torch.stack([torch.zeros(len(spec.statics)), torch.linspace(0.25, 0.75, len(spec.statics))])
    days = spec.fixed_length or spec.shortest_run - 1 + _DRY_DAYS  # beyond one window: several are stacked
    weather = torch.zeros(1, days, len(spec.drivers))
    alone = torch.cat([_simulate(surrogate, member[None], weather) for member in members])
    if not bool(torch.isfinite(alone).all()):
        raise SurrogateError(
            f"surrogate {spec.name!r} simulates values that are not finite from average weather "
            "and parameters. Check its weights and the scaling in its spec."
        )
    _check_members(surrogate, members, weather, alone)
    if torch.equal(alone[0], alone[1]) and _is_constant(surrogate, days):
        raise SurrogateError(
            f"surrogate {spec.name!r}: its fluxes do not depend on its static parameters, so there is nothing to invert. "
            "Check its weights and which input is which."
        )


def _check_scaling(scaler: Scaler, variables: tuple[Variable, ...], where: str) -> None:
    """Refuse a mean or spread that the precision of the network cannot hold."""
    average = scaler.to_physical(torch.zeros(len(variables)))
    for variable, value in zip(variables, scaler.to_scaled(average).tolist(), strict=True):
        if not abs(value) < 1:  # rounding apart it is 0; NaN fails too
            raise SurrogateError(
                f"{where} {variable.name!r} has mean {variable.mean:g}, std {variable.std:g} and log {variable.log}: "
                f"{torch.get_default_dtype()} cannot hold its average. Mend the spec."
            )


def _simulate(surrogate: FrozenSurrogate, static: Tensor, weather: Tensor) -> Tensor:
    """Simulate scaled members through scaled weather (1, T, F)."""
    spec = surrogate.spec
    try:
        with torch.no_grad():
            prepared: Forcing = surrogate.prepare(surrogate.forcing_scaler.to_physical(weather))
            simulated: Tensor = surrogate(static, prepared)
            return simulated
    except LitInvertError:
        raise
    except Exception as error:
        raise SurrogateError(
            f"surrogate {spec.name!r} cannot take {len(spec.statics)} statics, "
            f"{len(spec.drivers)} drivers and {weather.shape[1]} days as its spec says ({first_line(error)}). "
            "Mend the spec, or the network."
        ) from error


def _check_members(surrogate: FrozenSurrogate, members: Tensor, weather: Tensor, alone: Tensor) -> None:
    """Refuse a network whose members (B, P) notice each other."""
    try:
        together = _simulate(surrogate, members, weather)
    except LitInvertError as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise SurrogateError(
            f"surrogate {surrogate.spec.name!r} simulates one member but not {len(members)} at once "
            f"({first_line(cause)}). Export it with a dynamic batch axis."
        ) from error
    spread = alone.amax((0, 1)) - alone.amin((0, 1))
    allowed = _OF_SPREAD * spread + _OF_SIZE * alone.abs().amax((0, 1))
    if not bool(((together - alone).abs() <= allowed).all()):
        raise SurrogateError(
            f"surrogate {surrogate.spec.name!r} simulates a member differently beside others. "
            "Export it with a dynamic batch axis, in evaluation mode."
        )


def _is_constant(surrogate: FrozenSurrogate, days: int) -> bool:
    """Whether quite different members do the same in changing weather, too: an activation may be silent on average."""
    members, weather = _swinging(8, len(surrogate.spec.statics)), _swinging(days, len(surrogate.spec.drivers))
    simulated = _simulate(surrogate, members, weather[None])
    return torch.equal(simulated, simulated[:1].expand_as(simulated))


def _swinging(rows: int, columns: int) -> Tensor:
    """Return scaled values within two spreads of the average, no two rows alike."""
    return 2 * torch.sin(torch.outer(torch.arange(1.0, rows + 1), torch.arange(1.0, columns + 1)))
