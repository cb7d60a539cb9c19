r"""What the tower measured: values, which of them to trust, and how well.

A tower reports net ecosystem exchange or net ecosystem production, in one of several units, gap-filled or not. Inside lit-invert
there is one convention: gC m-2 d-1, positive into the ecosystem, so that

.. math:: \mathrm{NEP} = -\mathrm{NEE}

Sign and unit are stated in the config (or known from a FLUXNET column name) and converted here, once. A day's value is *observed*
when it exists and passes every quality rule; the boolean `mask` says so, and nothing outside it may enter a loss or a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ObservationError, ShapeError, suggest
from .tables import DailyTable, agreed

Sign = Literal["nep", "nee"]

#: Carbon flux units and their factor to gC m-2 d-1 (1 umol CO2 = 12.011e-6 gC, 86,400 s a day; 1 ha = 10,000 m2).
FLUX_UNITS: Mapping[str, float] = {
    "gC m-2 d-1": 1.0,
    "umol m-2 s-1": 12.011e-6 * 86_400,
    "MgC ha-1 d-1": 100.0,
    "kgC ha-1 d-1": 0.1,
    "gC ha-1 d-1": 1e-4,
    "kgC m-2 s-1": 1000.0 * 86_400,
}

#: A daily carbon flux of a larger magnitude does not occur; a wrong unit or missing-value code does [gC m-2 d-1].
LARGEST_FLUX = 100.0
#: A record whose largest magnitude is below this is in another unit than stated [gC m-2 d-1].
SMALLEST_PEAK = 0.01
#: The long form's column of values; its name says neither sign nor unit.
LONG_FORM_COLUMN = "y"
#: FLUXNET's daily quality is the share of half-hours that were measured or filled with confidence.
FLUXNET_QUALITY = 0.8


@dataclass(frozen=True)
class _Convention:
    """What a column's well-known name says about its values."""

    column: str
    sign: Sign = "nep"
    quality: str | None = None


#: Column names that speak for themselves, in order of preference; daily FLUXNET files are in gC m-2 d-1.
_CONVENTIONS: Mapping[str, tuple[_Convention, ...]] = {
    "nep": (
        _Convention("nep"),
        _Convention("nee", "nee"),
        _Convention("NEE_VUT_REF", "nee", "NEE_VUT_REF_QC"),
        _Convention("NEE_CUT_REF", "nee", "NEE_CUT_REF_QC"),
        _Convention("NEE_daily", "nee"),
    ),
    "gpp": (_Convention("gpp"), _Convention("GPP_NT_VUT_REF"), _Convention("GPP_DT_VUT_REF")),
}


@dataclass
class QualityRule:
    """A day is observed only if a column of the file lies within limits; a day without that value is not."""

    column: str
    """Column with the quality of the day: share or number of measured half-hours, or a flag."""
    minimum: float | None = None
    """Smallest value that passes, e.g. 24 half-hours or a share of 0.8."""
    maximum: float | None = None
    """Largest value that passes, for flags in which 0 is best."""


@dataclass
class ObservedSettings:
    """Where one flux is found in the file, and what its numbers mean."""

    column: str | None = None
    """Column with the daily values; found by its usual name when omitted."""
    sign: Sign | None = None
    """`nep` if uptake by the land is positive, `nee` if release is. Needed unless the column's name says it."""
    unit: str | None = None
    """One of gC m-2 d-1, umol m-2 s-1 (of CO2), MgC, kgC or gC ha-1 d-1, kgC m-2 s-1. Needed unless the column's name says it."""
    uncertainty: str | None = None
    """Column with the standard deviation of the day's value, in the same unit."""
    quality: QualityRule | list[QualityRule] | None = None
    """Rules for this flux, on top of those for all."""


@dataclass(frozen=True)
class Observations:
    """Measured fluxes of a site, aligned with its forcing.

    Raises:
        ShapeError: If the arrays do not belong together.
    """

    dates: NDArray[np.datetime64]
    """A (T,)-dim array of consecutive days."""
    names: tuple[str, ...]
    """Names of the V fluxes, in the order of the surrogate's outputs."""
    values: NDArray[np.float64]
    """A (T, V)-dim array, NaN where absent [gC m-2 d-1]."""
    mask: NDArray[np.bool_]
    """A (T, V)-dim array, true where observed."""
    sigma: NDArray[np.float64] | None = None
    """A (T, V)-dim array of standard deviations, or none if the file gives none [gC m-2 d-1]."""

    def __post_init__(self) -> None:
        shape = (len(self.dates), len(self.names))
        for name, array in (("values", self.values), ("mask", self.mask), ("sigma", self.sigma)):
            if array is not None and array.shape != shape:
                raise ShapeError(f"observations: {name!r} has shape {array.shape}, expected {shape} (days, fluxes).")

    def only(self, days: NDArray[np.bool_]) -> Observations:
        """Keep some days; on all others values are NaN, unmasked, and not recoverable.

        Args:
            days: A boolean (T,)-dim array, true for the days to keep.

        Returns:
            Observations over the same dates that share no memory with these.
        """
        keep = days[:, None]
        sigma = None if self.sigma is None else np.where(keep, self.sigma, np.nan)
        return Observations(self.dates, self.names, np.where(keep, self.values, np.nan), self.mask & keep, sigma)

    @property
    def observed_days(self) -> NDArray[np.bool_]:
        """A (T,)-dim array, true on days with at least one observed flux."""
        return np.asarray(self.mask.any(axis=1))


def to_carbon(values: NDArray[np.float64], unit: str, sign: Sign, where: str) -> NDArray[np.float64]:
    """Convert fluxes to gC m-2 d-1, positive into the ecosystem.

    Args:
        values: An array of any shape [`unit`].
        unit: One of `FLUX_UNITS`.
        sign: `nee` turns the sign.
        where: Key of the config that states the unit, for the error.

    Returns:
        An array of the same shape [gC m-2 d-1].

    Raises:
        ObservationError: If the unit is not known.

    Example:
        >>> to_carbon(np.array([-1.0]), "umol m-2 s-1", "nee", "data.observed.nep").round(4).tolist()
        [1.0378]
    """
    if unit not in FLUX_UNITS:
        raise ObservationError(f"{where}: unit {unit!r} is not a carbon flux unit.{suggest(unit, FLUX_UNITS)}")
    return values * (FLUX_UNITS[unit] if sign == "nep" else -FLUX_UNITS[unit])


def read_observations(
    table: DailyTable,
    settings: Mapping[str, ObservedSettings],
    quality: QualityRule | list[QualityRule] | None,
    names: tuple[str, ...],
    dates: NDArray[np.datetime64],
    *,
    use_quality: bool = True,
) -> tuple[Observations, tuple[str, ...]]:
    """Take the observed fluxes out of a table and put them on the calendar of the forcing.

    Args:
        table: The tower's file.
        settings: Fluxes to read by name; NEP by its usual column name when empty.
        quality: Rules for every flux.
        names: The surrogate's outputs, in order.
        dates: Consecutive days of the forcing, (T,)-dim.
        use_quality: Whether quality rules make the mask; if not, every day with a value is observed.

    Returns:
        The observations, and notes on every choice that the config did not state.

    Raises:
        ObservationError: If a flux is unknown, its sign or unit is not stated, or its values cannot be right.
    """
    wanted = settings or {"nep": ObservedSettings()}
    shape = (len(dates), len(names))
    notes: list[str] = []
    values, sigma = np.full(shape, np.nan), np.full(shape, np.nan)
    mask = np.zeros(shape, dtype=bool)
    position = np.searchsorted(table.dates, dates).clip(max=len(table.dates) - 1)
    there = table.dates[position] == dates
    for name, setting in wanted.items():
        if name not in names:
            raise ObservationError(f"data.observed: {name!r} is not an output of the surrogate.{suggest(name, names)}")
        flux = _read_flux(table, name, setting, quality, notes, use_quality)
        column = names.index(name)
        for target, source in ((values, flux.values), (sigma, flux.sigma), (mask, flux.mask)):
            target[there, column] = source[position[there]]
    outside = int((~np.isin(table.dates, dates)).sum())
    if outside:
        notes.append(f"{table.path.name}: {outside} days outside the period of the forcing were left out.")
    given = any(setting.uncertainty for setting in wanted.values())
    return Observations(dates, names, values, mask, sigma if given else None), tuple(notes)


@dataclass(frozen=True)
class _Flux:
    values: NDArray[np.float64]
    mask: NDArray[np.bool_]
    sigma: NDArray[np.float64]


def _read_flux(
    table: DailyTable,
    name: str,
    setting: ObservedSettings,
    quality: QualityRule | list[QualityRule] | None,
    notes: list[str],
    use_quality: bool,
) -> _Flux:
    key = f"data.observed.{name}"
    convention = _find_convention(table, name, setting)
    column = convention.column
    if "reco" in column.lower():
        raise ObservationError(
            f"{key}: column {column!r} is ecosystem respiration, which includes the plants'; the surrogate's 'rh' does not. "
            "Leave it out."
        )
    sign = setting.sign or convention.sign
    agreed(table, column, f"{key}.sign", sign, table.sign(column) if name == "nep" else None)
    unit = agreed(table, column, f"{key}.unit", setting.unit, _carbon_unit(table, column, setting.unit)) or "gC m-2 d-1"
    if sign == "nee" and name != "nep":
        raise ObservationError(f"{key}.sign: 'nee' is a sign of net exchange; for {name!r} leave it out.")
    values = to_carbon(table.numbers(column, f"`{key}.column`"), unit, sign, f"{key}.unit")
    _check_magnitude(table, column, values, unit)
    rules = [*_rules(quality), *_rules(setting.quality)] if use_quality else []
    if use_quality and not rules and convention.quality and table.has(convention.quality):
        rules = [QualityRule(convention.quality, minimum=FLUXNET_QUALITY)]
        notes.append(f"Days with {convention.quality} below {FLUXNET_QUALITY} are not observed (default; see `data.quality`).")
    mask = ~np.isnan(values)
    for rule in rules:
        mask &= _passes(table, rule)
    return _Flux(values, mask, _read_sigma(table, key, setting, unit, mask, notes))


def _find_convention(table: DailyTable, name: str, setting: ObservedSettings) -> _Convention:
    key, known = f"data.observed.{name}", _CONVENTIONS.get(name, (_Convention(name),))
    candidates = [c for c in known if table.has(c.column) and setting.column in (None, c.column)]
    if candidates:
        return candidates[0]
    column = setting.column or LONG_FORM_COLUMN
    if setting.column is None and not table.has(column):
        usual = ", ".join((*(c.column for c in known), column))
        raise ObservationError(
            f"{table.path}: has no column with a usual name for {name!r} ({usual}). "
            f"Name yours in `{key}.column`, with its sign and unit."
        )
    for what, stated, choice in (
        ("sign", setting.sign or table.sign(column) or name != "nep", "'nep' if uptake is positive, 'nee' if release is"),
        ("unit", setting.unit or table.unit(column), f"one of {', '.join(FLUX_UNITS)}"),
    ):
        if not stated:
            raise ObservationError(
                f"{key}.{what}: is not stated, and the name of column {column!r} does not say it. Give {choice}."
            )
    return _Convention(column, "nee" if table.sign(column) == "nee" and name == "nep" else "nep")


def _carbon_unit(table: DailyTable, column: str, stated: str | None) -> str | None:
    """Return the unit that the file states; of a mass without its substance, only the config can say that it is of carbon."""
    unit = table.unit(column)
    is_said = unit is not None and stated is not None and unit.replace("g m-2", "gC m-2") == stated
    return stated if is_said else unit


def _check_magnitude(table: DailyTable, column: str, values: NDArray[np.float64], unit: str) -> None:
    magnitude = np.nan_to_num(np.abs(values))
    largest = int(magnitude.argmax())
    if magnitude[largest] > LARGEST_FLUX:
        raise ObservationError(
            f"{table.place(largest, column)}: {values[largest]:.6g} gC m-2 d-1 cannot be a daily carbon flux (magnitude above "
            f"{LARGEST_FLUX:g}). Likely cause: the unit is not {unit!r}, or a missing-value code other than -9999."
        )
    if 0.0 < magnitude[largest] < SMALLEST_PEAK:
        raise ObservationError(
            f"{table.path}: column {column!r} never exceeds {magnitude[largest]:.3g} gC m-2 d-1. "
            f"Likely cause: the unit is not {unit!r}."
        )


def _rules(quality: QualityRule | list[QualityRule] | None) -> list[QualityRule]:
    if quality is None:
        return []
    return [quality] if isinstance(quality, QualityRule) else quality


def _passes(table: DailyTable, rule: QualityRule) -> NDArray[np.bool_]:
    if rule.minimum is None and rule.maximum is None:
        raise ObservationError(f"data.quality: rule for column {rule.column!r} has no limit. Give `minimum` or `maximum`.")
    quality = table.numbers(rule.column, "`data.quality`")
    lower = -np.inf if rule.minimum is None else rule.minimum
    upper = np.inf if rule.maximum is None else rule.maximum
    return (quality >= lower) & (quality <= upper)


def _read_sigma(
    table: DailyTable, key: str, setting: ObservedSettings, unit: str, mask: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.float64]:
    """Return the standard deviation of each day; 1 gC m-2 d-1 for a flux without, the median for a day without."""
    if setting.uncertainty is None:
        return np.ones(len(mask))
    given = table.numbers(setting.uncertainty, f"`{key}.uncertainty`")
    sigma = to_carbon(given, _carbon_unit(table, setting.uncertainty, unit) or unit, "nep", f"{key}.unit")
    wrong = np.flatnonzero(mask & (sigma <= 0))
    if wrong.size:
        raise ObservationError(
            f"{table.place(wrong[0], setting.uncertainty)}: uncertainty is {given[wrong[0]]:g}, expected it above zero. "
            "Leave the cell empty where it is not known."
        )
    absent = mask & np.isnan(sigma)
    if absent.any():
        if not (mask & ~absent).any():
            raise ObservationError(f"{table.path}: column {setting.uncertainty!r} has no value on any observed day.")
        sigma[absent] = np.median(sigma[mask & ~absent])
        notes.append(
            f"{int(absent.sum())} observed days without {setting.uncertainty} take its median, "
            f"{np.median(sigma[mask]):.3g} gC m-2 d-1."
        )
    return sigma
