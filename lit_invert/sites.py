"""A place with its weather and its measurements, split into what may be fitted, chosen by, and tested on.

:func:`read_site` returns two things. The :class:`Site` goes everywhere: forcing of every day, observations of the `fit` and
`select` days. The :class:`SealedObservations` hold the `test` days; they go to the final report alone, which opens them once.
Nothing that can be reached from a `Site` leads to a `test` value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, ObservationError
from .forcing import DriverSettings, read_forcing
from .observations import Observations, ObservedSettings, QualityRule, read_observations
from .roles import FIT, SELECT, TEST, SplitSettings, assign_roles
from .surrogates.base import SurrogateSpec
from .tables import DailyTable, DataReader, load_table


@dataclass
class DataSettings:
    """Where a site's measurements and weather are, and what the numbers mean.

    A FLUXNET file needs `path` and `latitude` alone; many sites need `sites`.
    """

    path: str | None = None
    """File with one row a day: CSV, Parquet, or what a plugin reads. With `sites`, the file of those that name none."""
    latitude: float | None = None
    """Latitude of the site [degrees north]; a constant column `latitude` of the file when omitted."""
    site: str = ""
    """Name of the site, also the `unique_id` to pick from a file with several; when omitted, what the file's name says."""
    observed: dict[str, ObservedSettings] = field(default_factory=dict)
    """Observed fluxes by the surrogate's output name; NEP by its usual column name when omitted."""
    quality: QualityRule | list[QualityRule] | None = None
    """Which days count as observed, for every flux."""
    drivers: dict[str, DriverSettings] = field(default_factory=dict)
    """Drivers whose column, unit or constant cannot be guessed."""
    drivers_path: str | None = None
    """File with the weather, if it is another one."""
    query: str = ""
    """Which rows of the file are the site's, as `column = value`; by its `unique_id` when omitted."""
    years: str = ""
    """First and last year to use, as `2009-2012`, or one year; all when omitted."""
    sites: str | None = None
    """Catalogue of many sites, CSV or Parquet with one row a site, or a folder of their files."""
    priors: str | None = None
    """Priors of sites that differ from the table of parameters: CSV with one row a prior, one column a parameter."""
    split: SplitSettings = field(default_factory=SplitSettings)
    """How days are shared out between `fit`, `select` and `test`."""


@dataclass(frozen=True)
class Site:
    """What is known of a site before the final report."""

    name: str
    latitude: float
    """[degrees north]"""
    dates: NDArray[np.datetime64]
    """A (T,)-dim array of consecutive days."""
    drivers: tuple[str, ...]
    """Names of the F drivers, in the order of the surrogate's spec."""
    forcing: NDArray[np.float64]
    """A (T, F)-dim array in the units of the spec."""
    fit: Observations
    """Observations of the `fit` days; all others are NaN."""
    select: Observations | None
    """Observations of the `select` days, if there are any; all others are NaN."""
    roles: NDArray[np.str_]
    """A (T,)-dim array: fit, select, test, gap or unused."""
    notes: tuple[str, ...]
    """What was derived, assumed or left out on the way, a sentence each."""


class SealedObservations:
    """Observations of the `test` days, which can be opened once.

    Args:
        observations: What to seal; NaN on all other days.
    """

    __slots__ = ("_open",)

    def __init__(self, observations: Observations) -> None:
        self._open = _seal(observations)

    def open(self) -> Observations:
        """Break the seal.

        Returns:
            The observations of the `test` days.

        Raises:
            RuntimeError: If they were opened before; a second look is not a test.
        """
        return self._open()

    def __repr__(self) -> str:
        return "SealedObservations(...)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("SealedObservations cannot be copied or pickled: test days are opened once, by the final report.")


def _seal(observations: Observations) -> Callable[[], Observations]:
    content = [observations]

    def open_once() -> Observations:
        if not content:
            raise RuntimeError("the test observations were opened before; they are read once, by the final report.")
        return content.pop()

    return open_once


def read_site(
    settings: DataSettings, spec: SurrogateSpec, readers: Mapping[str, DataReader], *, use_quality: bool = True
) -> tuple[Site, SealedObservations]:
    """Read a site's forcing and observations, and seal the test days.

    Args:
        settings: The block `data:` of the config, with absolute paths.
        spec: Names, order and units of what the surrogate takes and gives, and its warm-up.
        readers: Readers of files by name.
        use_quality: Whether quality rules say which days are observed; if not, every day with a value is.

    Returns:
        The site without its test days, and the test days.

    Raises:
        ConfigError: If the latitude is not on earth, or a split is malformed.
        ForcingError: If a driver is missing, incomplete or outside its physical range.
        ObservationError: If the file cannot be read, or observations cannot be right or are too few to split.
    """
    if settings.path is None:
        raise ConfigError("`data.path` is missing. Give the tower's file, or a catalogue of many sites as `data.sites`.")
    path = Path(settings.path)
    table = load_table(path, settings, readers)
    latitude = settings.latitude if settings.latitude is not None else _latitude_of(table)
    check_latitude(latitude, "data.latitude")
    weather = table if settings.drivers_path is None else load_table(Path(settings.drivers_path), settings, readers)
    forcing = read_forcing(weather, settings.drivers, spec.drivers, latitude)
    observed, notes = read_observations(
        table, settings.observed, settings.quality, spec.output_names, forcing.dates, use_quality=use_quality
    )
    roles = assign_roles(forcing.dates, observed.observed_days, settings.split, spec.warmup_days)
    missing = [role for role in (SELECT, TEST) if not (roles == role).any()]
    if settings.split.method == "auto" and missing:
        notes = (*notes, f"{(roles == FIT).sum()} observed days are too few to hold any back for {' and '.join(missing)}")
    site = Site(
        name=settings.site or site_of(path),
        latitude=latitude,
        dates=forcing.dates,
        drivers=forcing.names,
        forcing=forcing.values,
        fit=observed.only(roles == FIT),
        select=observed.only(roles == SELECT) if (roles == SELECT).any() else None,
        roles=roles,
        notes=(*forcing.notes, *notes),
    )
    return site, SealedObservations(observed.only(roles == TEST))


def check_latitude(latitude: float, key: str) -> None:
    """Check that a latitude is on earth.

    Raises:
        ConfigError: If it is not.
    """
    if not -90.0 <= latitude <= 90.0:
        raise ConfigError(f"`{key}` is {latitude!r}, expected degrees north from -90 to 90.")


def _latitude_of(table: DailyTable) -> float:
    """Return the constant of the file's column `latitude`."""
    if not table.has("latitude"):
        raise ConfigError(f"`data.latitude` is missing, and {table.path} has no column 'latitude'. Give the site's degrees north.")
    values = np.unique(table.numbers("latitude", "`data.latitude`"))
    if len(values) != 1 or np.isnan(values[0]):
        raise ObservationError(f"{table.path}: column 'latitude' has {len(values)} values, expected the same one on every row.")
    return float(values[0])


def site_of(path: Path) -> str:
    """Return the site that a file's name says: that of FLUXNET's and AmeriFlux's own names, otherwise all of it.

    Example:
        >>> site_of(Path("FLX_US-AR1_FLUXNET2015_SUBSET_DD_2009-2012_1-3.csv")), site_of(Path("my_tower.csv"))
        ('US-AR1', 'my_tower')
    """
    fluxnet = re.match(r"(?:FLX|AMF|ICOSETC)_([A-Z]{2}-[A-Za-z0-9]{3})_", path.name)
    return path.stem if fluxnet is None else fluxnet[1]
