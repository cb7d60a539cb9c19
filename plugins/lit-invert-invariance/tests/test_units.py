"""A change of unit that is told to the spec changes nothing; one that cannot be told changes what the network sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lit_invert_invariance.units import (
    Rescaling,
    factor_rescalings,
    flux_rescalings,
    logs_of_zero,
    rescalings_of,
    summarize,
    unit_rescalings,
)
from torch import nn

from lit_invert import FLUX_UNITS, FrozenSurrogate, SurrogateSpec, Variable
from lit_invert.surrogates.windows import Windows
from lit_invert.testing import toy_problem

DRIVERS = (
    Variable("tmp_2m", "K", 280.0, 8.0),
    Variable("tmp10_soil", "degC", 7.0, 8.0, minimum=-30.0),
    Variable("dswrf", "W m-2", 4.5, 0.7, log=True, maximum=400.0),
)
#: A mean of 280 K, over a deviation of 8 K, as a surrogate keeps it: in float32.
ROUNDING = 280 / 8 * 2**-23


class Sums(nn.Module):
    """Every flux is the sum of the scaled drivers of each day, plus the statics."""

    def forward(self, static, forcing):
        return (forcing.sum(-1, keepdim=True) + static.sum(-1)[:, None, None]).expand(-1, -1, 4)


def problem_of(network, problem=None, **spec):
    problem = problem or toy_problem()
    return problem.variant(surrogate=FrozenSurrogate(network, replace(problem.surrogate.spec, **spec)).double())


def simulate(problem):
    return problem.simulate(torch.full((1, 3), 0.3, dtype=torch.float64))


def test_units_are_paired_with_those_that_measure_the_same():
    spec = replace(toy_problem().surrogate.spec, drivers=DRIVERS)
    assert [r.name for r in unit_rescalings(spec)] == ["K as degC", "degC as K", "W m-2 as MJ m-2 d-1"]
    assert [list(r.drivers) for r in unit_rescalings(spec)] == [["tmp_2m"], ["tmp10_soil"], ["dswrf"]]


def test_only_ratio_scales_take_a_factor():
    spec = replace(toy_problem().surrogate.spec, drivers=DRIVERS)
    assert [(r.name, list(r.drivers)) for r in factor_rescalings(spec)] == [
        ("drivers x 100", ["tmp_2m", "dswrf"]),
        ("drivers x 10,000", ["tmp_2m", "dswrf"]),
    ]


def test_the_logarithm_of_a_temperature_bears_no_offset():
    spec = replace(toy_problem().surrogate.spec, drivers=(Variable("tmp_2m", "K", 5.6, 0.1, log=True),))
    assert unit_rescalings(spec) == []
    assert [r.name for r in factor_rescalings(spec)] == ["drivers x 100", "drivers x 10,000"]


@pytest.mark.parametrize(
    ("unit", "other", "value", "expected"),
    [
        ("K", "degC", 298.15, 25.0),
        ("W m-2", "MJ m-2 d-1", 1e6 / 86_400, 1.0),
        ("kg m-2 s-1", "mm d-1", 1.0, 86_400.0),
        ("Pa", "kPa", 101_325.0, 101.325),
        ("%", "fraction", 50.0, 0.5),
        ("kg kg-1", "g kg-1", 0.007, 7.0),
    ],
)
def test_a_value_in_the_other_unit(unit, other, value, expected):
    problem = toy_problem(n_days=3)
    drivers = (Variable("tmp_2m", unit), Variable("aco2", "ppm"), Variable("day_length", "h"))
    forcing = problem.forcing.clone()
    forcing[..., 0] = value
    problem = problem_of(problem.surrogate.network, problem, drivers=drivers).variant(forcing=forcing)
    rescaling = next(r for r in unit_rescalings(problem.surrogate.spec) if r.name == f"{unit} as {other}")
    rescaled = rescaling.apply(problem)
    assert rescaled.forcing[..., 0].tolist() == [pytest.approx([expected] * 3, rel=1e-12)]
    assert rescaled.surrogate.spec.drivers[0].unit == other
    torch.testing.assert_close(rescaled.forcing[..., 1:], problem.forcing[..., 1:], rtol=0, atol=0)


@pytest.mark.parametrize("place", range(10))
def test_what_is_told_to_the_spec_changes_no_flux(place):
    problem = problem_of(Sums(), drivers=DRIVERS)
    rescaling = rescalings_of(problem)[place]
    rescaled = rescaling.apply(problem)
    torch.testing.assert_close(simulate(rescaled), simulate(problem), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(rescaled.observed, problem.observed, rtol=1e-14, atol=0)
    if rescaling.drivers:
        assert not torch.equal(rescaled.forcing, problem.forcing)


def test_the_range_of_training_moves_with_the_unit():
    problem = problem_of(Sums(), drivers=DRIVERS)
    rescaled = summarize(rescalings_of(problem))[0].apply(problem)
    soil, light = rescaled.surrogate.spec.drivers[1:]
    assert (soil.unit, soil.minimum) == ("K", pytest.approx(243.15))
    assert (light.unit, light.maximum, light.std) == ("MJ m-2 d-1", pytest.approx(34.56), 0.7)


def test_a_network_that_takes_forcing_as_it_comes_sees_the_change():
    problem = problem_of(Sums(), forcing_scaled=False)
    rescaled = unit_rescalings(problem.surrogate.spec)[0].apply(problem)
    # two temperatures, 273.15 less each
    torch.testing.assert_close(simulate(rescaled), simulate(problem) - 2 * 273.15, rtol=1e-12, atol=0)


@pytest.mark.parametrize("unit", sorted(set(FLUX_UNITS) - {"gC m-2 d-1"}))
def test_scaled_outputs_are_told_the_unit_of_the_fluxes(unit):
    outputs = tuple(Variable(name, "MgC ha-1 d-1", 0.02, 0.03) for name in ("gpp", "npp", "nep", "rh"))
    problem = problem_of(Sums(), outputs=outputs, outputs_scaled=True)
    rescaled = next(r for r in flux_rescalings() if r.flux_unit == unit).apply(problem)
    assert {v.unit for v in rescaled.surrogate.spec.outputs} == {unit}
    torch.testing.assert_close(simulate(rescaled), simulate(problem), rtol=1e-6, atol=0)


def test_a_network_of_windows_is_not_cut_twice():
    class Last(nn.Module):
        def forward(self, static, window):
            return window[..., :1].expand(-1, -1, 4) + static[:, None, :1]

    problem = problem_of(Last(), windows=Windows(context_days=4, horizon_days=2), warmup_days=4)
    rescaled = factor_rescalings(problem.surrogate.spec)[0].apply(problem)
    torch.testing.assert_close(simulate(rescaled), simulate(problem), rtol=0, atol=ROUNDING)
    assert rescaled.surrogate.network is problem.surrogate.network


def test_few_stand_for_many():
    problem = problem_of(Sums(), drivers=DRIVERS)
    few = summarize(rescalings_of(problem))
    assert [r.name for r in few] == ["drivers in other units", "drivers x 10,000", "fluxes as umol m-2 s-1"]
    assert {name: c.unit for name, c in few[0].drivers.items()} == {"tmp_2m": "degC", "tmp10_soil": "K", "dswrf": "MJ m-2 d-1"}


def test_of_two_units_of_a_driver_the_first_counts():
    spec = SurrogateSpec("s", (), (Variable("vpd", "Pa"),), ())
    (one,) = summarize(unit_rescalings(spec))
    assert isinstance(one, Rescaling)
    assert one.drivers["vpd"].unit == "hPa"


@pytest.mark.parametrize(("rain", "left_out"), [(0.0, ["dswrf"]), (1e-6, [])])
def test_a_logarithm_of_zero_keeps_its_unit(rain, left_out):
    problem = toy_problem()
    spec = replace(problem.surrogate.spec, drivers=DRIVERS)
    forcing = problem.forcing.abs() + 1.0
    forcing[0, 3, 2] = rain
    problem = problem.variant(surrogate=FrozenSurrogate(Sums(), spec).double(), forcing=forcing)
    assert logs_of_zero(problem) == left_out
    moved = {name for rescaling in rescalings_of(problem) for name in rescaling.drivers}
    assert ("dswrf" in moved) == (not left_out)
