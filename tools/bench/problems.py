"""Twin experiments: inverse problems whose truth is known and whose simulator is a surrogate.

A truth is drawn from the prior of the shipped table, truncated to its bounds. Its NEP is simulated, by the surrogate itself or,
with `mismatch`, by the process model that the surrogate imitates. Noise is added, half of the days are taken away in gaps, and what
is left is the problem. The same arguments give the same problem on every machine, to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import lit_invert
from lit_invert.assembly import Record, build_problem
from lit_invert.observations import Observations
from lit_invert.parameters import ParameterTable, load_parameter_table
from lit_invert.problem import InversionProblem
from lit_invert.process import simulate
from lit_invert.process.ensemble import draw_statics
from lit_invert.process.weather import Weather, load_weather, perturb
from lit_invert.settings import InversionSettings
from lit_invert.surrogates.base import FrozenSurrogate
from lit_invert.surrogates.loaders import LOADERS, load_surrogate
from lit_invert.trust import Trust

Array = NDArray[np.float64]
ASSETS = Path(lit_invert.__file__).parent / "assets"
TABLE = ASSETS / "parameters" / "simcycle_36.csv"
SITES = {"FR-Hes_2016": 48.67, "US-AR1_2009-2012": 36.43}
"""Shipped records and their latitude [degrees north]."""
SHIPPED = (128, 1)
"""Hidden size and layers of the shipped surrogate."""
CACHE = Path.home() / ".cache" / "lit-invert" / "bench"

#: Random error of a daily NEP, sd = a + b |NEP|: a regression of `nee_randunc` on |NEP| over US-AR1 [gC m-2 d-1].
NOISE_FLOOR, NOISE_SLOPE = 0.094, 0.084
#: What no tower states, a slow error of model and forcing: standard deviation [gC m-2 d-1] and correlation from day to day.
DRIFT_SPREAD, DRIFT_MEMORY = 0.3, 0.8
#: Days over which the presence of observations is correlated.
GAP_DAYS = 15
#: Weight of the prior: the noise's variance over the days of half a year, which makes the optimum the most probable one.
LAMBDA_PRIOR = 0.001


@dataclass(frozen=True)
class Twin:
    """An inverse problem with its answer."""

    problem: InversionProblem
    truth: Tensor
    """Parameters that made the observations, (P,), physical."""
    start: Tensor
    """Theta of the prior, (1, P)."""


def twin_problem(
    days: int = 365,
    hidden: int = 128,
    layers: int = 1,
    seed: int = 0,
    *,
    mismatch: bool = False,
    lambda_prior: float = LAMBDA_PRIOR,
    cache: Path = CACHE,
) -> Twin:
    """Draw a twin experiment.

    Args:
        days: Length of the record.
        hidden: Hidden size of the surrogate.
        layers: Layers of the surrogate.
        seed: Seed of truth, weather, noise and gaps; also the site, even or odd.
        mismatch: Whether the process model makes the observations instead of the surrogate.
        lambda_prior: Weight of the squared distance from the prior in scaled space.
        cache: Folder of the surrogates that are not shipped.

    Returns:
        The problem, its truth, and where methods start.
    """
    random = np.random.default_rng(seed)
    surrogate = bench_surrogate(hidden, layers, cache)
    table = bench_table(surrogate)
    truth = draw_statics(table, 1, near_prior=1.0, seed=seed)
    forcing = torch.as_tensor(draw_forcing(days, seed, random))
    fluxes = (simulate(truth, forcing[None]) if mismatch else simulate_surrogate(surrogate, truth, forcing))[0]
    problem = build_problem(
        surrogate,
        table,
        [Record(forcing, observe(fluxes.double().numpy(), surrogate.spec.output_names, random))],
        InversionSettings(lambda_prior=lambda_prior),
    )
    return Twin(problem, truth[0], problem.space.to_theta(problem.space.prior)[None])


def random_start(problem: InversionProblem, seed: int) -> Tensor:
    """Draw theta, (1, P), from the truncated prior."""
    return problem.space.to_theta(draw_statics(problem.space.table, 1, near_prior=1.0, seed=seed).to(problem.space.prior.dtype))


def bench_table(surrogate: FrozenSurrogate) -> ParameterTable:
    """Load the shipped table in the surrogate's order."""
    return load_parameter_table(TABLE).ordered_as([v.name for v in surrogate.spec.statics], str(TABLE))


def bench_surrogate(hidden: int = SHIPPED[0], layers: int = SHIPPED[1], cache: Path = CACHE) -> FrozenSurrogate:
    """Load the shipped surrogate, or one of another size from the cache.

    Raises:
        FileNotFoundError: If that size has not been trained yet.
    """
    folder = ASSETS / "simcycle_lstm" if (hidden, layers) == SHIPPED else surrogate_folder(hidden, layers, cache)
    if not (folder / "spec.json").exists():
        raise FileNotFoundError(
            f"{folder}: no surrogate of hidden size {hidden} with {layers} layers. Train it once: "
            f"python tools/bench/train_surrogates.py --sizes {hidden}x{layers} --cache {cache}"
        )
    return load_surrogate(folder / "spec.json", {loader.name: loader for loader in LOADERS}, Trust())


def surrogate_folder(hidden: int, layers: int, cache: Path) -> Path:
    """Return where a surrogate of that size is kept."""
    return cache / f"simcycle_lstm_{hidden}x{layers}"


def bench_sites() -> list[Weather]:
    """Load the weather of the shipped sites."""
    return [load_weather(ASSETS / "sites" / f"{name}.csv", latitude) for name, latitude in SITES.items()]


def draw_forcing(days: int, seed: int, random: np.random.Generator) -> Array:
    """Return a site's measured weather where its record is long enough, else weather that it might have had, (days, F)."""
    sites = bench_sites()
    site = sites[seed % len(sites)]
    measured = site.forcing()
    return measured[:days] if days <= len(measured) else perturb(site, days, random)


@torch.no_grad()
def simulate_surrogate(surrogate: FrozenSurrogate, physical: Tensor, forcing: Tensor) -> Tensor:
    """Simulate the fluxes (B, T, V) of physical parameters (B, P) under physical forcing (T, F)."""
    scaled = surrogate.static_scaler.to_scaled(physical.float())
    simulated: Tensor = surrogate(scaled, surrogate.prepare(forcing.float()[None]))
    return simulated


def observe(fluxes: Array, names: tuple[str, ...], random: np.random.Generator) -> Observations:
    """Measure NEP alone: with noise, and on half of the days.

    Args:
        fluxes: A (T, V)-dim array of true fluxes [gC m-2 d-1].
        names: Names of the V fluxes.
        random: Source of noise and gaps.
    """
    days, target = len(fluxes), names.index("nep")
    nep = fluxes[:, target]
    noisy = nep + draw_noise(nep, random)
    mask = np.zeros(fluxes.shape, dtype=bool)
    mask[:, target] = draw_presence(days, random)
    values = np.where(mask, noisy[:, None], np.nan)
    return Observations(np.datetime64("2001-01-01") + np.arange(days), names, values, mask)


def draw_noise(nep: Array, random: np.random.Generator) -> Array:
    """Draw errors of daily NEP: one independent and growing with the flux, one autoregressive of first order."""
    independent = random.standard_normal(len(nep)) * (NOISE_FLOOR + NOISE_SLOPE * np.abs(nep))
    drift = np.empty_like(nep)
    level = random.standard_normal()
    for day, shock in enumerate(random.standard_normal(len(nep)) * np.sqrt(1.0 - DRIFT_MEMORY**2)):
        level = DRIFT_MEMORY * level + shock
        drift[day] = level
    return np.asarray(independent + DRIFT_SPREAD * drift)


def draw_presence(days: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which days are observed: half of them, in spells, where smoothed noise is above its median."""
    smooth = np.convolve(random.standard_normal(days + GAP_DAYS - 1), np.ones(GAP_DAYS), mode="valid")
    return np.asarray(smooth > np.median(smooth))
