r"""The weather that drives the model: finding each driver, converting its unit, deriving what no instrument measured.

A surrogate's spec names its drivers. For each one, in this order, :func:`read_forcing` takes what the config maps, a column of the
driver's own name, a FLUXNET column, or a derivation from other drivers. Unlike observations, forcing knows no gaps: the model must
step through every day. Everything that was not measured as such is recorded in the notes of the :class:`Forcing`; nothing is filled
silently.

Values travel in the units of :data:`DRIVERS` and leave in the unit that the spec states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .derivations import DERIVATIONS
from .errors import ForcingError, suggest
from .tables import DailyTable, agreed

if TYPE_CHECKING:
    from .surrogates.base import Variable

Series = NDArray[np.float64]


@dataclass(frozen=True)
class DriverKind:
    """What is known of a driver before any file is opened."""

    unit: str
    minimum: float
    maximum: float
    mistake: str
    """The usual reason for a value out of range."""
    fluxnet: tuple[str, str] | None = None
    """FLUXNET's daily column and its unit."""
    peak: float = -np.inf
    """A year's largest value is at least this."""


_CELSIUS = "degrees Celsius where kelvin is expected; set `unit: degC`"

#: Every driver and helper variable that is understood, with its unit here and the range of daily means on earth.
DRIVERS: Mapping[str, DriverKind] = {
    "tmp_sfc": DriverKind("K", 180.0, 350.0, _CELSIUS),
    "tmp_2m": DriverKind("K", 180.0, 335.0, _CELSIUS, ("TA_F", "degC")),
    "tmp10_soil": DriverKind("K", 200.0, 335.0, _CELSIUS, ("TS_F_MDS_1", "degC")),
    "tmp200_soil": DriverKind("K", 220.0, 320.0, _CELSIUS),
    "dswrf": DriverKind("W m-2", -5.0, 550.0, "a sum or a noon value; set `unit: MJ m-2 d-1`", ("SW_IN_F", "W m-2"), 50.0),
    "tcdc": DriverKind("%", 0.0, 100.0, "a fraction of one; set `unit: fraction`", peak=1.5),
    "prate": DriverKind("kg m-2 s-1", 0.0, 0.025, "millimetres a day; set `unit: mm d-1`", ("P_F", "mm d-1")),
    "spfh": DriverKind("kg kg-1", 0.0, 0.06, "grams per kilogram; set `unit: g kg-1`"),
    "wind": DriverKind("m s-1", 0.0, 75.0, "kilometres an hour", ("WS_F", "m s-1")),
    "aco2": DriverKind("ppm", 150.0, 2500.0, "a mole fraction; give ppm", ("CO2_F_MDS", "ppm")),
    "day_length": DriverKind("h", 0.0, 24.0, "seconds; give hours"),
    "sun_noon": DriverKind("-", 0.0, 1.0, "degrees; give the sine of the elevation"),
    "pressure": DriverKind("Pa", 45e3, 110e3, "kilopascals; set `unit: kPa`", ("PA_F", "kPa")),
    "vpd": DriverKind("Pa", 0.0, 12e3, "another unit; set `unit: hPa`", ("VPD_F", "hPa")),
    "relative_humidity": DriverKind("%", 0.0, 105.0, "a fraction of one; set `unit: fraction`", peak=1.5),
}

#: Factor and offset of each unit that a file may use, to the unit of `DRIVERS` that measures the same.
UNITS: Mapping[str, tuple[str, float, float]] = {
    "K": ("K", 1.0, 0.0),
    "degC": ("K", 1.0, 273.15),
    "W m-2": ("W m-2", 1.0, 0.0),
    "MJ m-2 d-1": ("W m-2", 1e6 / 86_400, 0.0),
    "%": ("%", 1.0, 0.0),
    "fraction": ("%", 100.0, 0.0),
    "kg m-2 s-1": ("kg m-2 s-1", 1.0, 0.0),
    "mm d-1": ("kg m-2 s-1", 1.0 / 86_400, 0.0),
    "mm h-1": ("kg m-2 s-1", 1.0 / 3600, 0.0),
    "kg kg-1": ("kg kg-1", 1.0, 0.0),
    "g kg-1": ("kg kg-1", 1e-3, 0.0),
    "m s-1": ("m s-1", 1.0, 0.0),
    "km h-1": ("m s-1", 1 / 3.6, 0.0),
    "ppm": ("ppm", 1.0, 0.0),
    "mol mol-1": ("ppm", 1e6, 0.0),
    "Pa": ("Pa", 1.0, 0.0),
    "hPa": ("Pa", 100.0, 0.0),
    "kPa": ("Pa", 1000.0, 0.0),
    "h": ("h", 1.0, 0.0),
    "-": ("-", 1.0, 0.0),
}


@dataclass
class DriverSettings:
    """Where one driver comes from."""

    column: str | None = None
    """Column of the file; the driver's own name when omitted."""
    unit: str | None = None
    """Unit of the column, e.g. degC, MJ m-2 d-1, mm d-1, kPa; SI when omitted."""
    constant: float | None = None
    """One value for every day, in place of a column."""


@dataclass(frozen=True)
class Forcing:
    """The drivers of a site on consecutive days."""

    dates: NDArray[np.datetime64]
    """A (T,)-dim array without a missing day."""
    names: tuple[str, ...]
    values: Series
    """A (T, F)-dim array in the order and the units of the surrogate's spec."""
    notes: tuple[str, ...]
    """What was derived, assumed or left out, a sentence each."""


def read_forcing(
    table: DailyTable, settings: Mapping[str, DriverSettings], drivers: Sequence[Variable], latitude: float
) -> Forcing:
    """Assemble the drivers that a surrogate asks for.

    Args:
        table: The file with the weather.
        settings: What the config maps, by driver.
        drivers: The drivers of the surrogate's spec, in order.
        latitude: Latitude of the site [degrees north].

    Returns:
        The forcing, in the order and the units of the spec.

    Raises:
        ForcingError: If a day or a driver is missing, or a value is not finite or outside its physical range.
    """
    _check_calendar(table)
    _check_settings(settings, drivers)
    source = _Source(table, settings, drivers, latitude)
    columns = [_to_spec_unit(source.driver(v.name), v) for v in drivers]
    return Forcing(table.dates, tuple(v.name for v in drivers), np.stack(columns, axis=1), (*table.notes, *source.notes))


class _Source:
    """Finds drivers one by one and remembers what it had to derive."""

    def __init__(
        self, table: DailyTable, settings: Mapping[str, DriverSettings], drivers: Sequence[Variable], latitude: float
    ) -> None:
        self.table, self.settings, self.latitude = table, settings, latitude
        self.units = {v.name: v.unit for v in drivers} | {name: kind.unit for name, kind in DRIVERS.items()}
        self.notes: list[str] = []
        self._found: dict[str, Series] = {}

    def driver(self, name: str) -> Series:
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Series:
        setting = self.settings.get(name, DriverSettings())
        if setting.constant is not None:
            self.notes.append(f"`{name}` is constant at {setting.constant:g} (config).")
            return self._checked(name, np.full(len(self.table.dates), setting.constant), None, setting.unit)
        if setting.column is not None or self.table.has(name):
            column = setting.column or name
            unit = agreed(self.table, column, f"data.drivers.{name}.unit", setting.unit, self.table.unit(column))
            return self._read(name, column, unit)
        fluxnet = DRIVERS[name].fluxnet if name in DRIVERS else None
        if fluxnet is not None and self.table.has(fluxnet[0]) and self._is_usable(name, fluxnet[0]):
            return self._read(name, fluxnet[0], setting.unit or fluxnet[1])
        return self._derive(name)

    def _is_usable(self, name: str, column: str) -> bool:
        """A FLUXNET column with gaps gives way to a derivation, where there is one."""
        gaps = int(np.isnan(self.table.numbers(column, f"`{name}`")).sum())
        if gaps and name in DERIVATIONS:
            self.notes.append(f"{column} lacks {gaps} days and was not used for `{name}`.")
            return False
        return True

    def _read(self, name: str, column: str, unit: str | None) -> Series:
        values = self.table.numbers(column, f"`data.drivers.{name}`")
        gaps = np.flatnonzero(np.isnan(values))
        if gaps.size:
            raise ForcingError(
                f"{self.table.place(gaps[0], column)}: driver {name!r} has no value, and none on {gaps.size} days in all. "
                "Fill the gaps; forcing must be complete."
            )
        return self._checked(name, values, column, unit)

    def _checked(self, name: str, values: Series, column: str | None, unit: str | None) -> Series:
        if unit is not None:
            values = _convert(values, unit, self.units.get(name, ""), f"data.drivers.{name}.unit")
        if name in DRIVERS:
            _check_range(self.table, name, column, values)
        return values

    def _derive(self, name: str) -> Series:
        derivation = DERIVATIONS.get(name)
        if derivation is None:
            columns = ", ".join(map(str, self.table.frame.columns))
            raise ForcingError(
                f"{self.table.path}: driver {name!r} is not there. Map its column in `data.drivers.{name}`, or give `constant`. "
                f"Columns: {columns}."
            )
        inputs = [self.driver(needed) for needed in derivation.needs]
        if derivation.note:
            self.notes.append(f"`{name}` {derivation.note}.")
        return derivation.compute(self.table.dates, self.latitude, inputs)


def _check_calendar(table: DailyTable) -> None:
    steps = np.diff(table.dates).astype(int)
    holes = np.flatnonzero(steps > 1)
    if holes.size:
        before = int(holes[0])
        first = table.dates[before] + np.timedelta64(1, "D")
        row, total = table.frame.index[before], int((steps - 1).sum())
        raise ForcingError(
            f"{table.path}: the day {first} is missing after row {row}, {total} days in all. Forcing needs every day; "
            "fill the drivers (observations may stay empty)."
        )


def _check_settings(settings: Mapping[str, DriverSettings], drivers: Sequence[Variable]) -> None:
    known = {v.name for v in drivers} | set(DRIVERS)
    for name, setting in settings.items():
        if name not in known:
            raise ForcingError(f"data.drivers: {name!r} is not a driver of the surrogate.{suggest(name, known)}")
        if setting.column is not None and setting.constant is not None:
            raise ForcingError(f"data.drivers.{name}: gives both `column` and `constant`. Keep one.")


def _check_range(table: DailyTable, name: str, column: str | None, values: Series) -> None:
    kind = DRIVERS[name]
    wrong = np.flatnonzero(~((values >= kind.minimum) & (values <= kind.maximum)))
    if wrong.size:
        where = f"data.drivers.{name}.constant" if column is None else table.place(wrong[0], column)
        raise ForcingError(
            f"{where}: driver {name!r} is {values[wrong[0]]:.6g} {kind.unit}, expected {kind.minimum:g} to {kind.maximum:g}. "
            f"Likely cause: {kind.mistake}."
        )
    if len(values) >= 365 and values.max() < kind.peak:
        raise ForcingError(
            f"{table.path}: driver {name!r} never exceeds {values.max():.4g} {kind.unit} in {len(values)} days. "
            f"Likely cause: {kind.mistake}."
        )


def _convert(values: Series, unit: str, target: str, where: str) -> Series:
    """Convert between two units that measure the same."""
    if unit == target:
        return values
    fitting = [u for u in UNITS if target in UNITS and UNITS[u][0] == UNITS[target][0]]
    if unit not in fitting:
        raise ForcingError(f"{where}: {unit!r} is not a unit that converts to {target!r}.{suggest(unit, fitting)}")
    _, factor, offset = UNITS[unit]
    _, target_factor, target_offset = UNITS[target]
    return (values * factor + offset - target_offset) / target_factor


def _to_spec_unit(values: Series, variable: Variable) -> Series:
    """Convert a driver of `DRIVERS` to the unit of the spec; others are in that unit already."""
    kind = DRIVERS.get(variable.name)
    if kind is None or kind.unit == "-" or not variable.unit:
        return values
    return _convert(values, kind.unit, variable.unit, f"spec of the surrogate, driver {variable.name!r}")
