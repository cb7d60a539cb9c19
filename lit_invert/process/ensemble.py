"""The ensemble that a surrogate learns from: many parameter sets, each under weather of its own.

Parameter sets are a scrambled Sobol sequence, which fills a 36-dimensional box more evenly than chance. Most are spread over
the whole box; a share is drawn from the prior, truncated to the box, because inversions start and mostly stay there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ..atomic import write_bytes
from ..errors import ConfigError
from ..parameters import ParameterTable, load_parameter_table
from .simcycle import simulate
from .weather import Weather, load_weather, perturb

CHUNK = 512  # members simulated at once; a few hundred MB at four years


@dataclass
class WeatherSite:
    """A site whose measured weather the members perturb."""

    path: str
    """CSV file with one column a driver, without gaps."""
    latitude: float
    """Degrees north."""
    held_out_years: list[int] = field(default_factory=list)
    """Years that no training member sees; the trained surrogate is judged on them."""


@dataclass
class EnsembleSettings:
    """What the ensemble consists of; two equal settings give the same bytes."""

    sites: list[WeatherSite]
    """Sites, visited in turn by the members."""
    parameters: str
    """Table of static parameters: bounds, prior and scale."""
    members: int = 3000
    """Parameter sets to train on."""
    held_out_members: int = 300
    """Further parameter sets that only judge."""
    days: int = 1461
    """Length of each member's record."""
    near_prior: float = 0.3
    """Share of members drawn from the prior rather than from the whole box."""
    seed: int = 0
    """Seed of the parameter sets and of the weather."""
    cache: str = "logs/ensembles"
    """Folder that keeps finished ensembles."""


@dataclass(frozen=True)
class Ensemble:
    """Simulated members, ready to learn from.

    Args:
        static: A `member x 36` tensor, physical.
        forcing: A `member x time x 12` tensor, physical.
        simulated: A `member x time x 4` tensor [gC m-2 d-1].
    """

    static: Tensor
    forcing: Tensor
    simulated: Tensor

    def __len__(self) -> int:
        return len(self.static)


@dataclass(frozen=True)
class Ensembles:
    """The three parts of an experiment: members to train on, members held out, and years held out.

    Held-out years are run with the held-out members, as measured; the part is empty when no year is held out.
    """

    training: Ensemble
    members: Ensemble
    years: Ensemble


def build_ensembles(settings: EnsembleSettings) -> Ensembles:
    """Simulate the ensembles, or load them where the same settings were simulated before.

    Args:
        settings: What to simulate.

    Returns:
        Training members, held-out members and held-out years, in float32.

    Raises:
        ConfigError: If a number of members is not positive or a site has no year to train on.
    """
    _check_settings(settings)
    cache = Path(settings.cache) / f"{_fingerprint(settings)}.safetensors"
    if cache.exists():
        return _unpack(load_file(cache))
    ensembles = _simulate_all(settings)
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(cache, save(_pack(ensembles)))
    return ensembles


def draw_statics(table: ParameterTable, count: int, near_prior: float, seed: int) -> Tensor:
    """Draw parameter sets: a share from the truncated prior, the others evenly over the box.

    Both are even, or normal, in the parameter's own scale: a `log` parameter in its logarithm.

    Args:
        table: Bounds, prior and scale of the P parameters.
        count: Number of sets.
        near_prior: Share drawn from the prior, spread evenly over the sequence.
        seed: Seed of the scrambling.

    Returns:
        A `count x P` float64 tensor, physical, inside the bounds.
    """
    engine = torch.quasirandom.SobolEngine(len(table), scramble=True, seed=seed)
    # The sequence may hold exact 0 and 1, where the normal quantile is infinite.
    even = engine.draw(count, dtype=torch.float64).clamp(1e-9, 1.0 - 1e-9)
    lower, upper = (_to_scale(side, table) for side in table.bounds.resolve(table.prior))
    prior = _to_scale(table.prior, table)
    spread = torch.where(table.log, table.prior_sd / table.prior, table.prior_sd)
    normal = torch.distributions.Normal(prior, spread)
    below, above = normal.cdf(lower), normal.cdf(upper)
    near = normal.icdf(below + even * (above - below))
    sequence = torch.arange(count, dtype=torch.float64)
    is_near = ((sequence + 1) * near_prior).floor() > (sequence * near_prior).floor()
    scaled = torch.where(is_near[:, None], near, lower + even * (upper - lower))
    return table.bounds.clip(torch.where(table.log, scaled.exp(), scaled))


def run_members(static: Tensor, forcing: Sequence[np.ndarray]) -> Ensemble:
    """Run the process model for parameter sets under their own weather, a chunk at a time.

    Args:
        static: A `member x 36` tensor, physical.
        forcing: For each member a `time x 12` array.

    Returns:
        The members, in float32.
    """
    drivers = torch.from_numpy(np.stack(forcing).astype(np.float32))
    with torch.inference_mode():
        simulated = [
            simulate(some, weather).float() for some, weather in zip(static.split(CHUNK), drivers.split(CHUNK), strict=True)
        ]
    return Ensemble(static.float(), drivers, torch.cat(simulated).clone())


def _simulate_all(settings: EnsembleSettings) -> Ensembles:
    table = load_parameter_table(settings.parameters)
    count = settings.members + settings.held_out_members
    static = draw_statics(table, count, settings.near_prior, settings.seed)
    training, held_out = static.split([settings.members, settings.held_out_members])
    sites = [(load_weather(Path(s.path), s.latitude), s.held_out_years) for s in settings.sites]
    known = [site.only(set(site.years) - set(years)) for site, years in sites]
    unseen = [site.only(years) for site, years in sites if years]
    random = np.random.default_rng(settings.seed)

    def perturbed(members: int) -> list[np.ndarray]:
        return [perturb(known[i % len(known)], settings.days, random) for i in range(members)]

    return Ensembles(
        run_members(training, perturbed(len(training))),
        run_members(held_out, perturbed(len(held_out))),
        _run_held_out_years(held_out, unseen),
    )


def _run_held_out_years(static: Tensor, unseen: list[Weather]) -> Ensemble:
    """Run each held-out member under one of the unseen years as measured; 365 days each, so that they stack."""
    years = [site.only([year]).forcing()[:365] for site in unseen for year in site.years]
    if not years:
        return Ensemble(static[:0].float(), torch.empty(0, 0, 12), torch.empty(0, 0, 4))
    return run_members(static, [years[i % len(years)] for i in range(len(static))])


def _check_settings(settings: EnsembleSettings) -> None:
    for key in ("members", "held_out_members", "days"):
        value = getattr(settings, key)
        if value < 1:
            raise ConfigError(f"`ensemble.{key}` is {value!r}, expected 1 or more.")
    if not settings.sites:
        raise ConfigError("`ensemble.sites` is empty; name at least one site with weather.")
    for site in settings.sites:
        years = load_weather(Path(site.path), site.latitude).years
        if not set(years) - set(site.held_out_years):
            raise ConfigError(
                f"`ensemble.sites`: every year of {site.path!r} is held out "
                f"({', '.join(map(str, years))}); leave at least one to train on."
            )


def _fingerprint(settings: EnsembleSettings) -> str:
    """Hash what decides the ensemble's content: settings, table, weather, and the model's own code."""
    described = asdict(settings)
    del described["cache"]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    files = [Path(settings.parameters), *(Path(site.path) for site in settings.sites)]
    for file in [*files, *sorted(Path(__file__).parent.glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _to_scale(physical: Tensor, table: ParameterTable) -> Tensor:
    return torch.where(table.log, torch.where(table.log, physical, 1.0).log(), physical)


def _pack(ensembles: Ensembles) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor.contiguous()
        for part, ensemble in vars(ensembles).items()
        for name, tensor in vars(ensemble).items()
    }


def _unpack(tensors: dict[str, Tensor]) -> Ensembles:
    def part(name: str) -> Ensemble:
        return Ensemble(*(tensors[f"{name}.{key}"] for key in ("static", "forcing", "simulated")))

    return Ensembles(part("training"), part("members"), part("years"))
