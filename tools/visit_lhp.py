"""A stand-in for VISIT at Lambir Hills: its 36 parameters, two canopies of `simcycle`, and the weather of a tropical forest.

VISIT is not public. To show what an inversion of it looks like, two canopies of this project's own process model stand above each
other: trees, and C3 plants in their shade. Both shed litter on soils of their own, which decompose alike. What VISIT knows and
`simcycle` does not is averaged away, and what only `simcycle` needs is held constant; :data:`TREE`, :data:`UNDERSTOREY` and
:func:`to_simcycle` say how.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_invert import solar
from lit_invert.derivations import SOIL_10_DAYS, SOIL_200_DAYS, saturation_vapour_pressure, specific_humidity
from lit_invert.process.environment import PRESSURE, Environment, read_environment
from lit_invert.process.simcycle import CARBON_FRACTION, YEAR, State, initial_state, step
from lit_invert.process.statics import Statics

Array = NDArray[np.float64]

LATITUDE = 4.2
"""Lambir Hills, Sarawak [degrees north]."""
FIRST_DAY = np.datetime64("2001-01-01")

SOIL = {"sr_h": 0.12, "e0_lt": 308.56, "kmh": 0.1, "w_max": 200.0}
TREE = SOIL | {
    "ek0": 0.5, "kmci": 30.0, "cmpcd0": 50.0, "gs_b1": 9.0, "gs_b2": 4.9, "km_nstl": 0.3, "ctmp_lfdsp": 1.0, "ctmp_lfshd": 5.0,
    "dcd": 0.001, "lai_max": 3.5, "rmc_s": 0.25, "rmr_s": 0.35, "rgf": 0.4, "rgw": 0.25, "c_h0": 6.5,
}  # fmt: skip
UNDERSTOREY = TREE | {"ek0": 0.7, "lai_max": 1.0, "rmc_s": 0.03, "rmr_s": 0.2, "rgf": 0.35, "rgw": 0.35, "c_h0": 0.5}
"""What `simcycle` needs and VISIT's 36 do not give: VISIT's values at the site where the table of `simcycle` quotes them, otherwise
numbers that make both canopies together about as productive as tropical forests are."""
UNDERSTOREY_SHARE = 0.1
"""Carbon of a young understorey beside that of a stand in full light."""
LITTER_SHARES = {"lf": 0.4, "lc": 0.3, "lr": 0.3}
"""Leaf, stem and root litter: VISIT has a pool of each, `simcycle` one for all."""
SPINUP_YEARS = 8
"""Years on the first year's weather before the record; leaves of a rain forest live for six, and young pools drift."""
SLOWEST = 1e-6
"""Slowest turnover [d-1]; the table allows none at all."""


class Canopies(NamedTuple):
    """Both canopies in the parameters of `simcycle`."""

    tree: Statics
    understorey: Statics


def to_simcycle(static: Mapping[str, Tensor]) -> Canopies:
    r"""Translate VISIT's parameters.

    VISIT's `alloc_ass` is the leaves' share of growth and its `alloc_abg` that of leaves and stem. In `simcycle` the stem has a
    share of what leaves do not take:

    .. math:: a_{stem} = (a_{abg} - a_{ass}) / (1 - a_{ass})

    Args:
        static: Each of the 36 parameters by its name in VISIT, `batch`.

    Returns:
        The parameters of the trees and of the plants below.
    """
    return Canopies(_canopy(static, "tree", TREE), _canopy(static, "c3", UNDERSTOREY))


def _canopy(static: Mapping[str, Tensor], prefix: str, constants: Mapping[str, float]) -> Statics:
    own = {name.removeprefix(f"{prefix}_").lower(): value for name, value in static.items() if name.startswith(prefix)}
    leaf, aboveground = own["alloc_ass"], own["alloc_abg"]
    values = {name: torch.full_like(leaf, value) for name, value in constants.items()} | own
    values |= {name: own[name].clamp(min=SLOWEST) for name in ("lf0", "lc0", "lr0")}
    values["alloc_abg"] = (aboveground - leaf) / (1.0 - leaf)
    values["sr_l"] = torch.stack([share * static[f"soil_sr_{pool}"] for pool, share in LITTER_SHARES.items()]).sum(0)
    values["f_co2"] = torch.stack([share * static[f"soil_f_co2_{pool}"] for pool, share in LITTER_SHARES.items()]).sum(0)
    return Statics(**values)


def simulate(static: Mapping[str, Tensor], forcing: Tensor) -> Tensor:
    """Simulate the daily carbon fluxes of both canopies and their soils, after a spin-up on the first year.

    Args:
        static: Each of the 36 parameters by its name in VISIT, `batch`.
        forcing: A `batch x time x 12` tensor in the order and units of `simcycle`'s drivers (batch may be 1).

    Returns:
        A `batch x time x 4` float64 tensor of GPP, NPP, NEP and Rh [gC m-2 d-1].
    """
    tree, below = to_simcycle({name: value.double() for name, value in static.items()})
    spinup = [forcing[:, :YEAR]] * SPINUP_YEARS
    environment = read_environment(torch.cat([*spinup, forcing], dim=1).double())
    high, low = initial_state(tree), _young(initial_state(below))
    days = []
    for day in zip(*(values.unbind(1) for values in environment), strict=True):
        light = Environment(*day)
        shade = shaded(light, tree, high)
        high, above = step(tree, light, high)
        low, under = step(below, shade, low)
        days.append(
            torch.stack([above.gpp + under.gpp, above.autotrophic + under.autotrophic, above.heterotrophic + under.heterotrophic])
        )
    gpp, autotrophic, heterotrophic = torch.stack(days[-forcing.shape[1] :], dim=-1)
    npp = gpp - autotrophic
    return torch.stack([gpp, npp, npp - heterotrophic, heterotrophic], dim=-1)


def _young(state: State) -> State:
    carbon = {name: UNDERSTOREY_SHARE * getattr(state, name) for name in ("leaf", "reserve", "stem", "root", "litter")}
    return state._replace(**carbon)


def shaded(day: Environment, tree: Statics, state: State) -> Environment:
    r"""Return the day below the trees: of the light, :math:`e^{-k L}` is left by a leaf area L above.

    Args:
        day: Conditions above the trees, each `batch`.
        tree: Parameters of the trees.
        state: Pools of the trees.

    Returns:
        The same day with less light and less net radiation.
    """
    leaf_area = 1e-4 * tree.sla * state.leaf / CARBON_FRACTION
    left = torch.exp(-tree.ek0 / day.light_path * leaf_area)
    return day._replace(noon_par=left * day.noon_par, net_radiation=left * day.net_radiation)


def draw_weather(members: int, days: int, random: np.random.Generator) -> Tensor:
    """Draw years that Lambir Hills might have: 26 degC, 2.6 m of rain in 250 days, with dry spells of weeks.

    A slow wetness decides how likely rain is, rain and chance make clouds, clouds dim the sun and cool the air. Each member has a
    climate of its own: up to 1.5 K warmer or cooler, rain times 0.6 to 1.4, light times 0.9 to 1.1, CO2 from 360 to 430 ppm.

    Args:
        members: Number of records.
        days: Length of each, from :data:`FIRST_DAY` on.
        random: Source of every draw.

    Returns:
        A `members x days x 12` float32 tensor in the order and units of `simcycle`'s drivers.
    """
    dates = FIRST_DAY + np.arange(days)
    season = np.cos(2.0 * np.pi * np.arange(days) / 365.25)  # the north-east monsoon of the turn of the year is wettest

    def climate(low: float, high: float) -> Array:
        return random.uniform(low, high, (members, 1))

    wetness = 0.9 + 0.5 * season + 0.9 * _wander(members, days, 30.0, random)
    is_wet = random.uniform(size=(members, days)) < 1.0 / (1.0 + np.exp(-wetness))
    rain = climate(0.6, 1.4) * is_wet * random.gamma(0.7, 14.5, (members, days))
    cloud = np.clip(0.5 + 0.17 * is_wet + 0.12 * _wander(members, days, 2.0, random), 0.05, 1.0)
    light = climate(0.9, 1.1) * solar.top_of_atmosphere(dates, LATITUDE) * (0.68 - 0.36 * cloud)
    air = 299.2 + climate(-1.5, 1.5) - 0.5 * season - 3.0 * (cloud - 0.6) + 0.6 * _wander(members, days, 4.0, random)
    shallow = _lagged(air, SOIL_10_DAYS)
    humidity = np.clip(0.84 + 0.12 * (cloud - 0.6) + 0.04 * np.tanh(wetness - 0.9), 0.5, 0.98)
    columns = [
        air + 0.3,
        air,
        shallow,
        _lagged(shallow, SOIL_200_DAYS),
        light,
        100.0 * cloud,
        rain / 86_400.0,
        specific_humidity(humidity * saturation_vapour_pressure(air), np.full_like(air, 100.0 * PRESSURE)),
        1.5 * np.exp(0.3 * _wander(members, days, 2.0, random)),
        climate(360.0, 430.0) + np.zeros(days),
        np.broadcast_to(solar.day_length(dates, LATITUDE), air.shape),
        np.broadcast_to(solar.sun_noon(dates, LATITUDE), air.shape),
    ]
    return torch.from_numpy(np.stack(columns, axis=-1).astype(np.float32))


def _wander(members: int, days: int, memory: float, random: np.random.Generator) -> Array:
    """Return series of mean 0 and variance 1 that forget with a time constant [d]."""
    keep = np.exp(-1.0 / memory)
    values = random.standard_normal((members, days))
    values[:, 1:] *= np.sqrt(1.0 - keep**2)
    for t in range(1, days):
        values[:, t] += keep * values[:, t - 1]
    return values


def _lagged(series: Array, memory: float) -> Array:
    """Return series that follow others with a time constant [d], from their mean on."""
    keep = np.exp(-1.0 / memory)
    lagged, level = np.empty_like(series), series.mean(1)
    for t in range(series.shape[1]):
        level = keep * level + (1.0 - keep) * series[:, t]
        lagged[:, t] = level
    return lagged
