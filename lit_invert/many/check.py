"""Looking at every site of a catalogue before a run, writing nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..catalogue import SiteEntry, load_catalogue, load_priors
from ..errors import ConfigError, LitInvertError, PluginError
from ..extensions import Verdict
from ..fit import FitConfig, Inputs, read_inputs, read_model, read_site_inputs
from ..plugins import Registry
from .reading import remembering


def read_every_site(config: FitConfig, registry: Registry) -> Iterator[Inputs]:
    """Read and check what a fit reads, site after site: that of `data.path`, or those of the catalogue.

    Args:
        config: The config.
        registry: What the plugins registered.

    Raises:
        LitInvertError: If any of it is missing, malformed, or does not fit the others.
    """
    if config.data.sites is None:
        yield read_inputs(config, registry)
        return
    for entry, read in _catalogue(config, registry):
        try:
            yield read()
        except PluginError:
            raise
        except LitInvertError as error:
            raise ConfigError(f"{config.data.sites}, site {entry.name!r}: {error}") from error


def _catalogue(config: FitConfig, registry: Registry) -> Iterator[tuple[SiteEntry, Callable[[], Inputs]]]:
    """Read what all sites of a catalogue share, and yield each with the function that reads it."""
    surrogate, table = read_model(config, registry)
    priors = load_priors(config.data.priors, table)
    registry = remembering(registry)

    def read(entry: SiteEntry) -> Inputs:
        return read_site_inputs(replace(config, data=entry.data), registry, surrogate, table, priors.of(entry))

    for entry in load_catalogue(config.data, registry.data_readers):
        yield entry, partial(read, entry)


@dataclass(frozen=True)
class SiteCheck:
    """What was found of one site."""

    site: str
    days: Mapping[str, int]
    """Days of each role; empty where the site cannot be read."""
    verdicts: tuple[Verdict, ...] = ()
    fault: str = ""
    """Why it cannot be read."""

    @property
    def failed(self) -> bool:
        """Whether a fit would refuse the site."""
        return bool(self.fault) or any(verdict.outcome == "fail" for verdict in self.verdicts)


def check_sites(config: FitConfig, registry: Registry) -> list[SiteCheck]:
    """Read and check every site of a catalogue.

    Args:
        config: The config, with `data.sites`; with `checks: warn` a failed check is a finding and not an error.
        registry: What the plugins registered.

    Raises:
        LitInvertError: If the catalogue or anything that all sites share is wrong.
    """
    checks = []
    for entry, read in _catalogue(config, registry):
        try:
            inputs = read()
        except LitInvertError as error:
            checks.append(SiteCheck(entry.name, {}, fault=str(error)))
            continue
        roles, days = np.unique(inputs.site.roles, return_counts=True)
        checks.append(SiteCheck(entry.name, dict(zip(roles.tolist(), days.tolist(), strict=True)), inputs.verdicts))
    return checks
