"""A compact daily carbon model with 36 parameters, after Sim-CYCLE and VISIT.

One leaf stands for the canopy. Photosynthesis minus maintenance is a surplus; its leaf share enters a reserve of
stored assimilate from which leaves are displayed when the season opens, the rest builds stem and roots. Tissue falls as
litter, litter decomposes into carbon dioxide and humus, humus into carbon dioxide. A bucket of water limits both ends.

Members (parameter sets) are vectorised, days are a loop, arithmetic is float64. Two budgets close to rounding every day
and are tests: carbon (`change of pools = GPP - Ra - Rh`) and water.

Source: Ito and Oikawa (2002), doi:10.1016/S0304-3800(01)00473-2; Ito (2019), doi:10.5194/esd-10-685-2019;
Sato, Itoh and Kohyama (2007), doi:10.1016/j.ecolmodel.2006.09.006.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ShapeError
from .canopy import photosynthesise, water_response
from .environment import DRIVERS, Environment, read_environment
from .statics import Statics
from .water import step_water

OUTPUTS = ("gpp", "npp", "nep", "rh")
YEAR = 365
SPINUP_YEARS = 2

CARBON_FRACTION = 0.5  # gC in a gram of dry leaf
PERMIL = 1e-3
STAND_AGE = 20.0  # years that the initial stem, roots and litter have grown
REFERENCE_NPP = 50.0  # gC m-2 yr-1 a unit of pmax: 600 at its default of 12
MOIST_COLD = 1.0  # mean of the soil's temperature and water factors that the initial litter has seen
HALF_SAPWOOD = 3000.0  # gC m-2 of stem at which half of it is heartwood
SEASON_WIDTH = 1.0  # K over which the season opens and closes
FLUSH_RATE = 0.07  # d-1, share of the reserve that opening leaves draw


class State(NamedTuple):
    """Pools at the end of a day, each `batch`: carbon [gC m-2], then water [mm]."""

    leaf: Tensor
    reserve: Tensor
    stem: Tensor
    root: Tensor
    litter: Tensor
    humus: Tensor
    bucket: Tensor
    snow: Tensor


class Fluxes(NamedTuple):
    """Carbon [gC m-2 d-1] and water [mm d-1] that crossed the site's boundary on a day, each `batch`."""

    gpp: Tensor
    autotrophic: Tensor
    heterotrophic: Tensor
    precipitation: Tensor
    evaporation: Tensor
    runoff: Tensor


class Trajectory(NamedTuple):
    """A run's daily course, for budgets and for looking inside; every tensor is `batch x time`."""

    fluxes: Fluxes
    states: State


class SimCycle:
    """The process model as the rest of lit-invert sees it: parameters and drivers in, four fluxes out.

    Example:
        >>> model = SimCycle()
        >>> len(model.statics), len(model.drivers), model.outputs
        (36, 12, ('gpp', 'npp', 'nep', 'rh'))
    """

    name = "simcycle"
    statics = Statics._fields
    drivers = DRIVERS
    outputs = OUTPUTS

    def __call__(self, static_physical: Tensor, forcing: Tensor) -> Tensor:
        """Run the model; see `simulate`."""
        return simulate(static_physical, forcing)


def simulate(static_physical: Tensor, forcing: Tensor, *, spinup_years: int = SPINUP_YEARS) -> Tensor:
    """Simulate daily carbon fluxes for a batch of parameter sets.

    The first year of the forcing is recycled `spinup_years` times before the first day that is returned.

    Args:
        static_physical: A `batch x 36` tensor in the order and units of `Statics`.
        forcing: A `batch x time x 12` tensor (batch may be 1) in the order and units of `DRIVERS`.
        spinup_years: Years of spin-up; 0 starts from the initial pools.

    Returns:
        A `batch x time x 4` float64 tensor of GPP, NPP, NEP and Rh [gC m-2 d-1]; NEP > 0 is a sink.

    Raises:
        ShapeError: If the last axes are not 36 and 12, or the batches do not match.
    """
    fluxes = trajectory(static_physical, forcing, spinup_years=spinup_years).fluxes
    npp = fluxes.gpp - fluxes.autotrophic
    return torch.stack([fluxes.gpp, npp, npp - fluxes.heterotrophic, fluxes.heterotrophic], dim=-1)


def trajectory(static_physical: Tensor, forcing: Tensor, *, spinup_years: int = SPINUP_YEARS) -> Trajectory:
    """Run the model and keep each day's pools and boundary fluxes; arguments as for `simulate`."""
    _check_shapes(static_physical, forcing)
    p = Statics(*static_physical.double().unbind(-1))
    first_year = forcing[:, :YEAR]
    environment = read_environment(torch.cat([first_year] * spinup_years + [forcing], dim=1).double())
    state = initial_state(p)
    history: list[tuple[State, Fluxes]] = []
    for day in zip(*(values.unbind(1) for values in environment), strict=True):
        state, fluxes = step(p, Environment(*day), state)
        history.append((state, fluxes))
    kept = history[spinup_years * first_year.shape[1] :]
    return Trajectory(
        Fluxes(*(torch.stack(days, dim=1) for days in zip(*(fluxes for _, fluxes in kept), strict=True))),
        State(*(torch.stack(days, dim=1) for days in zip(*(state for state, _ in kept), strict=True))),
    )


def initial_state(p: Statics) -> State:
    r"""Pools of a young stand, as functions of the parameters alone.

    Stem, roots and litter have grown for :math:`a = 20` years from an input :math:`I` under a turnover :math:`k`:

    .. math:: C = I\,\frac{1 - e^{-k a}}{k}

    where the input follows a reference NPP proportional to `pmax`. Humus is `c_h0`, the canopy half open, reserve and bucket
    full. The spin-up then adapts the quick pools to the weather.

    Args:
        p: The static parameters, each `batch`.

    Returns:
        The pools before the spin-up.
    """
    npp = REFERENCE_NPP * p.pmax
    wood = npp * (1.0 - p.alloc_ass)
    canopy = full_canopy(p)
    return State(
        leaf=0.5 * canopy,
        reserve=canopy * (1.0 + p.rgf),
        stem=_grown(wood * p.alloc_abg, p.lc0),
        root=_grown(wood * (1.0 - p.alloc_abg), p.lr0),
        litter=_grown(0.75 * npp, MOIST_COLD * PERMIL * p.sr_l),
        humus=1000.0 * p.c_h0,
        bucket=p.w_max.clone(),
        snow=torch.zeros_like(p.w_max),
    )


def step(p: Statics, day: Environment, state: State) -> tuple[State, Fluxes]:
    """Advance all pools by one day.

    Args:
        p: The static parameters, each `batch`.
        day: Conditions of the day, each `batch`.
        state: Pools at the start of the day.

    Returns:
        Pools at the end of the day and what crossed the site's boundary.
    """
    leaf_area = 1e-4 * p.sla * state.leaf / CARBON_FRACTION
    wetness = state.bucket / p.w_max
    canopy = photosynthesise(p, day, leaf_area, wetness)
    water = step_water(p, day, state.bucket, state.snow, leaf_area, canopy.conductance)
    plants, autotrophic, litterfall = _step_plants(p, day, state, canopy.gpp)
    litter, humus, heterotrophic = _step_soil(p, day, state, wetness, litterfall)
    fluxes = Fluxes(
        canopy.gpp,
        autotrophic,
        heterotrophic,
        day.rain + day.snowfall,
        water.interception + water.evapotranspiration,
        water.runoff,
    )
    return State(*plants, litter, humus, water.bucket, water.snow), fluxes


def maintenance(p: Statics, day: Environment, leaf: Tensor, stem: Tensor, root: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Maintenance respiration of leaves, sapwood and roots [gC m-2 d-1].

    .. math:: R_i = r_i C_i\, e^{(T-15)\ln(q_i)/10}, \quad q_i = Q_{10,i}\, e^{-0.009 (T-15)}

    Only sapwood respires; its share of the stem falls as the stem grows, :math:`1/(1 + C_s/3000)`.

    Args:
        p: The static parameters, each `batch`.
        day: Conditions of the day, each `batch`.
        leaf: Leaf carbon [gC m-2].
        stem: Stem carbon [gC m-2].
        root: Root carbon [gC m-2].

    Returns:
        The three rates.
    """
    sapwood = stem / (1.0 + stem / HALF_SAPWOOD)
    return (
        PERMIL * p.rmf0 * leaf * _q10(p.qtf0, day.air),
        PERMIL * p.rmc_s * sapwood * _q10(p.qtc0, day.air),
        PERMIL * p.rmr_s * root * _q10(p.qtr0, day.soil),
    )


def season(p: Statics, day: Environment) -> Tensor:
    """State of the season, -1 to 1: leaves are displayed while it is positive and may be shed while it is negative.

    The ten-day mean temperature is held against a threshold that is `ctmp_lfdsp` while days lengthen and `ctmp_lfshd`
    while they shorten, as temperate trees open on warmth and close on cold in short days (Delpierre et al. 2009,
    doi:10.1016/j.agrformet.2008.11.014).
    """
    threshold = p.ctmp_lfshd + (p.ctmp_lfdsp - p.ctmp_lfshd) * day.lengthening
    return torch.tanh((day.mean_air - threshold) / SEASON_WIDTH)


def full_canopy(p: Statics) -> Tensor:
    """Leaf carbon at the ceiling of leaf area [gC m-2]."""
    return p.lai_max * CARBON_FRACTION / (1e-4 * p.sla)


def decomposition(p: Statics, celsius: Tensor, wetness: Tensor) -> Tensor:
    r"""Factor on decomposition: 1 in a moist soil at 10 degC.

    .. math:: f = e^{E_0 \left(\frac{1}{56.02} - \frac{1}{T + 46.02}\right)}\, \frac{W (1 + k)}{W + k}

    Args:
        p: The static parameters, each `batch`.
        celsius: Soil temperature [degC].
        wetness: Share of the bucket that is filled.

    Returns:
        The factor, `batch`.

    Source:
        Lloyd and Taylor (1994), Functional Ecology 8, 315-323, doi:10.2307/2389824.
    """
    warmth = torch.exp(p.e0_lt * (1.0 / 56.02 - 1.0 / (celsius.clamp(min=-45.0) + 46.02)))
    return warmth * water_response(p.kmh, wetness)


def _step_plants(
    p: Statics, day: Environment, state: State, gpp: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor, Tensor]:
    """Return the plant pools (leaf, reserve, stem, root), their respiration and their litterfall."""
    needs = maintenance(p, day, state.leaf, state.stem, state.root)
    need = needs[0] + needs[1] + needs[2]
    canopy = full_canopy(p)
    growing = season(p, day)
    room_in_reserve = (1.0 - state.reserve / (canopy * (1.0 + p.rgf))).clamp(min=0.0)
    room_in_canopy = (5.0 * (1.0 - state.leaf / canopy)).clamp(0.0, 1.0)
    # Leaves are served first, out of what they earn themselves, so that a bare plant recovers whatever its wood costs.
    stored = p.alloc_ass * (gpp - needs[0]).clamp(min=0.0) * room_in_reserve
    flushed = FLUSH_RATE * growing.clamp(min=0.0) * room_in_canopy * state.reserve
    balance = gpp - need - stored
    built = balance.clamp(min=0.0)
    # Each tissue pays a deficit from its own carbon in proportion to its need, so that respiration never outruns carbon
    # that exists; the reserve is kept for leaves, or a long winter would leave none for spring.
    eaten = (-balance).clamp(min=0.0) / need.clamp(min=1e-9)
    growth_respiration = flushed * p.rgf / (1.0 + p.rgf) + built * p.rgw / (1.0 + p.rgw)
    wood = built / (1.0 + p.rgw)

    shedding = p.dcd * (-growing).clamp(min=0.0) * (1.0 - day.lengthening)
    leaf_fall = state.leaf * (p.lf0 + shedding)
    stem_fall = state.stem * p.lc0
    root_fall = state.root * p.lr0
    plants = (
        state.leaf + flushed / (1.0 + p.rgf) - eaten * needs[0] - leaf_fall,
        state.reserve + stored - flushed,
        state.stem + wood * p.alloc_abg - eaten * needs[1] - stem_fall,
        state.root + wood * (1.0 - p.alloc_abg) - eaten * needs[2] - root_fall,
    )
    return plants, need + growth_respiration, leaf_fall + stem_fall + root_fall


def _step_soil(p: Statics, day: Environment, state: State, wetness: Tensor, litterfall: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return litter, humus and the carbon they respire; humus lies deeper and feels both soil temperatures."""
    rotted = PERMIL * p.sr_l * decomposition(p, day.soil, wetness) * state.litter
    mineralised = PERMIL * p.sr_h * decomposition(p, 0.5 * (day.soil + day.deep_soil), wetness) * state.humus
    litter = state.litter + litterfall - rotted
    humus = state.humus + (1.0 - p.f_co2) * rotted - mineralised
    return litter, humus, p.f_co2 * rotted + mineralised


def _q10(base: Tensor, celsius: Tensor) -> Tensor:
    warmer = celsius - 15.0
    return torch.exp(warmer / 10.0 * (torch.log(base) - 0.009 * warmer))


def _grown(input_per_year: Tensor, rate_per_day: Tensor) -> Tensor:
    rate = YEAR * rate_per_day
    return input_per_year * -torch.expm1(-rate * STAND_AGE) / rate


def _check_shapes(static_physical: Tensor, forcing: Tensor) -> None:
    wanted = len(Statics._fields)
    if static_physical.ndim != 2 or static_physical.shape[-1] != wanted:
        raise ShapeError(f"simcycle expects static parameters of shape (batch, {wanted}), found {tuple(static_physical.shape)}.")
    if forcing.ndim != 3 or forcing.shape[-1] != len(DRIVERS) or forcing.shape[1] == 0:
        raise ShapeError(
            f"simcycle expects forcing of shape (batch, time, {len(DRIVERS)}) with at least one "
            f"day, found {tuple(forcing.shape)}. Drivers: {', '.join(DRIVERS)}."
        )
    if forcing.shape[0] not in (1, static_physical.shape[0]):
        raise ShapeError(
            f"forcing has {forcing.shape[0]} members but there are {static_physical.shape[0]} "
            "parameter sets; give one forcing for all or one for each."
        )
