r"""The same question in other units.

A driver can be given in another unit, :math:`x' = a x + b`, if the surrogate's spec is told: mean, standard deviation and range
move with it, so that what the network sees, :math:`(x' - \mu') / \sigma'`, is what it saw before. The same holds for observations
and for outputs that the spec scales. A network that takes its forcing as it comes (`forcing_scaled: false`) cannot be told: it sees
other numbers and simulates another site.

Which units there are is what lit-invert reads: each unit of a driver's spec is exchanged for the others that measure the same.
Factors of 100 and 10,000 are added where zero means nothing, which for a temperature is so in kelvin alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from lit_invert import FLUX_UNITS, FrozenSurrogate, InversionProblem, SurrogateSpec, Variable
from lit_invert.forcing import UNITS
from lit_invert.observations import to_carbon

#: Factors on all drivers at once.
FACTORS = (100.0, 10_000.0)
#: What observations are in already.
FLUX_UNIT = "gC m-2 d-1"


@dataclass(frozen=True)
class Conversion:
    r"""Values in another unit, :math:`x' = a x + b`."""

    unit: str
    factor: float
    offset: float = 0.0

    def of(self, variable: Variable) -> Variable:
        """Return a variable in the other unit: the same scaled values from other physical ones.

        Example:
            >>> Conversion("degC", 1.0, -273.15).of(Variable("tmp_2m", "K", mean=283.15, std=8.0))
            Variable(name='tmp_2m', unit='degC', mean=10.0, std=8.0, log=False, minimum=None, maximum=None)
        """
        low, high = (None if side is None else self.factor * side + self.offset for side in (variable.minimum, variable.maximum))
        moved = replace(variable, unit=self.unit, minimum=low, maximum=high)
        if variable.log:
            return replace(moved, mean=variable.mean + math.log(self.factor))
        return replace(moved, mean=self.factor * variable.mean + self.offset, std=self.factor * variable.std)


@dataclass(frozen=True)
class Rescaling:
    """Some drivers, or the observed fluxes, in other units."""

    name: str
    kind: Literal["unit", "factor", "flux"]
    drivers: Mapping[str, Conversion] = field(default_factory=dict)
    """Conversion of each driver that changes, by name."""
    flux_unit: str = FLUX_UNIT
    """Unit of observations, and of outputs that the spec scales."""

    def apply(self, problem: InversionProblem) -> InversionProblem:
        """Return the problem in the other units, told to the spec; weights are shared.

        Args:
            problem: The problem; its forcing is one tensor where drivers change.
        """
        surrogate = problem.surrogate
        spec = replace(
            surrogate.spec,
            drivers=tuple(self._driver(v) for v in surrogate.spec.drivers),
            outputs=tuple(self._output(v) for v in surrogate.spec.outputs)
            if surrogate.spec.outputs_scaled
            else surrogate.spec.outputs,
            windows=None,  # the network cuts them by now
        )
        rescaled = FrozenSurrogate(surrogate.network, spec, surrogate.sha256).to(surrogate.static_scaler.mean)
        forcing = self._forcing(problem) if self.drivers else problem.forcing
        return problem.variant(surrogate=rescaled, forcing=forcing, observed=self._observed(problem.observed))

    def _driver(self, variable: Variable) -> Variable:
        return self.drivers[variable.name].of(variable) if variable.name in self.drivers else variable

    def _output(self, variable: Variable) -> Variable:
        factor = FLUX_UNITS.get(variable.unit, 1.0) / FLUX_UNITS[self.flux_unit]
        return Conversion(self.flux_unit, factor).of(variable)

    def _forcing(self, problem: InversionProblem) -> Tensor:
        assert isinstance(problem.forcing, Tensor)
        conversions = [self.drivers.get(v.name, Conversion("", 1.0)) for v in problem.surrogate.spec.drivers]
        physical = problem.forcing.double()
        factor, offset = (physical.new_tensor([getattr(c, side) for c in conversions]) for side in ("factor", "offset"))
        return (factor * physical + offset).to(problem.forcing)

    def _observed(self, observed: Tensor) -> Tensor:
        """Return observations as they come back from a file in the other unit."""
        if self.flux_unit == FLUX_UNIT:
            return observed
        written = observed.double().cpu().numpy() / FLUX_UNITS[self.flux_unit]
        return torch.from_numpy(to_carbon(written, self.flux_unit, "nep", "observations")).to(observed)


def rescalings_of(problem: InversionProblem) -> list[Rescaling]:
    """Return every change of unit that a problem can be told; those of drivers need forcing that is one tensor.

    Drivers of :func:`logs_of_zero` keep their units.
    """
    left_out, spec = logs_of_zero(problem), problem.surrogate.spec
    spec = replace(spec, drivers=tuple(v for v in spec.drivers if v.name not in left_out))
    drivers = [] if isinstance(problem.forcing, dict) else [*unit_rescalings(spec), *factor_rescalings(spec)]
    return [*drivers, *flux_rescalings()]


def logs_of_zero(problem: InversionProblem) -> list[str]:
    """Return the drivers, such as rain, that are taken by the logarithm and are zero on some day: no factor moves that zero."""
    if isinstance(problem.forcing, dict):
        return []
    drivers = problem.surrogate.spec.drivers
    return [v.name for i, v in enumerate(drivers) if v.log and bool((problem.forcing[..., i] <= 0).any())]


def unit_rescalings(spec: SurrogateSpec) -> list[Rescaling]:
    """Return one rescaling for each pair of units that measure the same, of all drivers in that unit together.

    Example:
        >>> spec = SurrogateSpec("s", (), (Variable("tmp_2m", "K"), Variable("vpd", "Pa")), ())
        >>> [rescaling.name for rescaling in unit_rescalings(spec)]
        ['K as degC', 'Pa as hPa', 'Pa as kPa']
    """
    units = [unit for unit in dict.fromkeys(v.unit for v in spec.drivers) if unit in UNITS]
    pairs = [(a, b) for a in units for b in UNITS if a != b and UNITS[a][0] == UNITS[b][0]]
    rescalings = [Rescaling(f"{a} as {b}", "unit", _conversions(spec, a, _conversion(a, b))) for a, b in pairs]
    return [rescaling for rescaling in rescalings if rescaling.drivers]


def factor_rescalings(spec: SurrogateSpec) -> list[Rescaling]:
    """Return the factors of 100 and 10,000 on all drivers whose unit begins at zero."""
    chosen = [v for v in spec.drivers if UNITS.get(v.unit, ("", 1.0, 0.0))[2] == 0]
    return [
        Rescaling(f"drivers x {factor:,.0f}", "factor", {v.name: Conversion(f"{v.unit} / {factor:,.0f}", factor) for v in chosen})
        for factor in FACTORS
        if chosen
    ]


def flux_rescalings() -> list[Rescaling]:
    """Return one rescaling for each other unit of a carbon flux; 100 and 10,000 are among their factors."""
    return [Rescaling(f"fluxes as {unit}", "flux", flux_unit=unit) for unit in FLUX_UNITS if unit != FLUX_UNIT]


def summarize(rescalings: Sequence[Rescaling]) -> list[Rescaling]:
    """Return few rescalings for many: all units of drivers at once, the largest factor, and the first other unit of a flux.

    Of several units of a driver the first counts.
    """
    units, factors, fluxes = ([r for r in rescalings if r.kind == kind] for kind in ("unit", "factor", "flux"))
    drivers = {name: conversion for r in reversed(units) for name, conversion in r.drivers.items()}
    at_once = [Rescaling("drivers in other units", "unit", drivers)] if drivers else []
    return [*at_once, *factors[-1:], *fluxes[:1]]


def _conversion(unit: str, target: str) -> Conversion:
    _, factor, offset = UNITS[unit]
    _, target_factor, target_offset = UNITS[target]
    return Conversion(target, factor / target_factor, (offset - target_offset) / target_factor)


def _conversions(spec: SurrogateSpec, unit: str, conversion: Conversion) -> dict[str, Conversion]:
    """Return the conversion of each driver in a unit; the logarithm of a driver bears a factor, no offset."""
    return {v.name: conversion for v in spec.drivers if v.unit == unit and not (v.log and conversion.offset)}
