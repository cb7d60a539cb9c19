"""New days of a site that a config knows, read as its own data are.

They have weather, and measurements if somebody has made them: unlike a fit, watching needs none. No day is kept apart for a test,
and the config's own period, `data.years`, does not hold for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lit_invert import FitConfig, FrozenSurrogate, InversionProblem, Observations, Site
from lit_invert.catalogue import SiteEntry, load_catalogue, load_priors
from lit_invert.errors import ConfigError, ObservationError, suggest
from lit_invert.fit import read_model
from lit_invert.forcing import Forcing, read_forcing
from lit_invert.observations import read_observations
from lit_invert.parameters import ParameterSpace
from lit_invert.plugins import Registry
from lit_invert.sites import site_of
from lit_invert.tables import DailyTable, DataReader, load_table


@dataclass(frozen=True)
class NewData:
    """New days, as checks take them: a problem that has no loss, and a site."""

    problem: InversionProblem
    site: Site
    unobserved: str
    """Why there are no measurements; empty where there are."""


def choose_site(config: FitConfig, readers: Mapping[str, DataReader], wanted: str | None) -> SiteEntry:
    """Return the site of a config that new data belong to.

    Args:
        config: The config of a fit.
        readers: Readers of daily files by name.
        wanted: Name of the site; may be left out where there is one.

    Raises:
        LitInvertError: If there is no such site, or it is not clear which.
    """
    entries = _entries(config, readers)
    names = [entry.name for entry in entries]
    if wanted is None and len(entries) > 1:
        raise ConfigError(f"the config names {len(entries)} sites. Say whose data these are: --site NAME.{suggest('', names)}")
    if wanted is not None and wanted not in names:
        raise ConfigError(f"`--site`: {wanted!r} is not a site of the config.{suggest(wanted, names)}")
    return next(entry for entry in entries if wanted in (None, entry.name))


def _entries(config: FitConfig, readers: Mapping[str, DataReader]) -> list[SiteEntry]:
    data = config.data
    if data.sites is not None:
        return load_catalogue(data, readers)
    if data.path is None:
        raise ConfigError("`data.path` is missing. Give the config of a fit: its file, or a catalogue as `data.sites`.")
    return [SiteEntry(data.site or site_of(Path(data.path)), data)]


def read_new_data(config: FitConfig, registry: Registry, entry: SiteEntry, path: Path) -> NewData:
    """Read a file of new days.

    Args:
        config: The config of a fit, which says surrogate, parameters, columns and units.
        registry: What the plugins registered.
        entry: The site.
        path: The file, one row a day; measurements may be absent.

    Raises:
        LitInvertError: If surrogate, parameters or weather cannot be read.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise ObservationError(f"`--data`: {path}: {found}. Expected a file of new days, one row a day.")
    surrogate, table = read_model(config, registry)
    prior = load_priors(config.data.priors, table).of(entry)
    settings = replace(entry.data, path=str(path), drivers_path=None, years="")
    if settings.latitude is None:
        raise ConfigError(f"site {entry.name!r}: `latitude` is missing. Give the site's degrees north in the config.")
    file = load_table(path, settings, registry.data_readers)
    forcing = read_forcing(file, settings.drivers, surrogate.spec.drivers, settings.latitude)
    if len(forcing.dates) <= surrogate.spec.warmup_days:
        warmup = f"the surrogate's warm-up takes {surrogate.spec.warmup_days}"
        raise ConfigError(f"{path}: has {len(forcing.dates)} days, but {warmup}. Give a longer file.")
    try:
        observed, unobserved = _observed(file, config, entry, surrogate, forcing), ""
    except ObservationError as error:
        observed, unobserved = _nothing(surrogate, forcing), str(error)
    roles = np.where(observed.observed_days, "fit", "unused")
    place = entry.name, settings.latitude, forcing.dates, forcing.names, forcing.values
    site = Site(*place, observed, None, roles, forcing.notes)
    transform = registry.transforms[config.constraints.transform]
    bounds = deepcopy(table.bounds).to(surrogate.static_scaler.mean.dtype)
    space = ParameterSpace(table, transform(surrogate.static_scaler, bounds), prior)
    return NewData(_problem(surrogate, space, site), site, unobserved)


def _observed(file: DailyTable, config: FitConfig, entry: SiteEntry, surrogate: FrozenSurrogate, forcing: Forcing) -> Observations:
    data, use_quality = entry.data, config.inversion.use_mask
    names = surrogate.spec.output_names
    return read_observations(file, data.observed, data.quality, names, forcing.dates, use_quality=use_quality)[0]


def _nothing(surrogate: FrozenSurrogate, forcing: Forcing) -> Observations:
    names = surrogate.spec.output_names
    values = np.full((len(forcing.dates), len(names)), np.nan)
    return Observations(forcing.dates, names, values, np.zeros(values.shape, dtype=bool))


def _problem(surrogate: FrozenSurrogate, space: ParameterSpace, site: Site) -> InversionProblem:
    """Join what a fit joins, without terms of a loss: there may be nothing to fit."""
    like, days = surrogate.static_scaler.mean, torch.arange(len(site.dates))[None] >= surrogate.spec.warmup_days
    forcing, observed = (torch.as_tensor(values).to(like)[None] for values in (site.forcing, site.fit.values))
    return InversionProblem(surrogate, space, forcing, observed, torch.tensor(site.fit.mask) & days[..., None], [], days=days)
