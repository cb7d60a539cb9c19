"""Many sites: one record a site, with everything about it that a fit must know.

A catalogue is a table, CSV or Parquet, with one row a site; its columns are ours (`site`, `path`, `latitude`, ...), known by a few
synonyms, and whatever else the user knows of a site, which is kept as its attributes: groups may share parameters by them, and a
network may learn parameters from them. A folder of daily files is a catalogue, too; a file `sites.csv` in it says the rest.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from .errors import ConfigError, ObservationError, ParameterTableError, suggest
from .observations import ObservedSettings, QualityRule
from .parameters import ParameterTable
from .sites import DataSettings, check_latitude, site_of
from .tables import DataReader

#: Columns of a catalogue that mean something, and the other names under which they are known, in any case of letters.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "site": ("id", "site_id", "unique_id"),
    "path": ("file",),
    "drivers_path": (),
    "query": (),
    "latitude": ("lat", "location_lat"),
    "longitude": ("lon", "location_long"),
    "plant_type": ("pft", "igbp"),
    "years": (),
    "prior": (),
    "column": (),
    "unit": (),
    "sign": (),
    "uncertainty": (),
    "quality": (),
    "quality_minimum": (),
    "quality_maximum": (),
}
#: The catalogue of a folder of files.
_IN_FOLDER = ("sites.csv", "sites.parquet")
#: Characters that some system does not take in the name of a folder.
_NOT_IN_NAMES = frozenset('\\/:*?"<>|')
#: What a table writes where it knows nothing.
_EMPTY = ("", "nan", "None", "NA", "-9999")


@dataclass(frozen=True)
class SiteEntry:
    """One site of a catalogue."""

    name: str
    """Unique name; also that of its folder and of its rows in the tables of results."""
    data: DataSettings
    """How its file is read."""
    longitude: float | None = None
    """[degrees east]"""
    plant_type: str = ""
    prior: str = ""
    """Row of the table of priors."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Every other column of the catalogue, as text."""

    def label(self, column: str) -> str:
        """Return what the catalogue says of the site in a column, empty where it says nothing."""
        known = {"site": self.name, "plant_type": self.plant_type, "prior": self.prior, "years": self.data.years}
        return known[column] if column in known else self.attributes.get(column, "")

    def number(self, column: str) -> float:
        """Return the same as a number, NaN where there is none."""
        if column in ("latitude", "longitude"):
            value = self.data.latitude if column == "latitude" else self.longitude
            return math.nan if value is None else value
        try:
            return float(self.label(column) or math.nan)
        except ValueError:
            return math.nan


def load_catalogue(data: DataSettings, readers: Mapping[str, DataReader]) -> list[SiteEntry]:
    """Read the catalogue that `data.sites` names.

    Args:
        data: The block `data:` of the config; its other keys hold for every site whose row says nothing else.
        readers: Readers of daily files by name, which say what in a folder is one.

    Returns:
        The sites, in the catalogue's order. Paths are relative to the catalogue.

    Raises:
        ObservationError: If the catalogue is missing, malformed or empty, or names a site twice.
    """
    path = Path(data.sites or "")
    if path.is_dir():
        inside = next((path / name for name in _IN_FOLDER if (path / name).is_file()), None)
        entries = _of_folder(path, data, readers) if inside is None else _of_table(inside, data)
    else:
        entries = _of_table(path, data)
    if not entries:
        raise ObservationError(f"{path}: names no site. Expected one row, or one file, a site.")
    return entries


def _of_folder(folder: Path, data: DataSettings, readers: Mapping[str, DataReader]) -> list[SiteEntry]:
    files = [p for p in sorted(folder.iterdir()) if _may_be_site(p) and any(reader.can_read(p) for reader in readers.values())]
    entries = [SiteEntry(site_of(p), replace(data, sites=None, path=str(p), site="")) for p in files]
    _check_names([entry.name for entry in entries], [str(p) for p in files])
    return entries


def _may_be_site(path: Path) -> bool:
    """Say whether a file's name is none of those that lie beside data: hidden files and a readme."""
    return path.is_file() and not path.name.casefold().startswith((".", "readme"))


def _of_table(path: Path, data: DataSettings) -> list[SiteEntry]:
    frame = _read(path, "sites")
    columns = _known_columns(frame, path)
    entries = [_entry(_Row(path, row, cells, columns), data) for row, cells in _rows(frame, path)]
    _check_names([entry.name for entry in entries], [f"{path}: row {row}" for row, _ in _rows(frame, path)])
    return entries


def _read(path: Path, what: str) -> pd.DataFrame:
    """Read a table as text.

    Args:
        path: CSV or Parquet file.
        what: `sites` or `priors`, which is also its key in the block `data:`.
    """
    try:
        frame = _read_parquet(path) if _is_parquet(path) else _read_csv(path)
    except FileNotFoundError:
        raise ObservationError(f"{path}: no such file. Check `data.{what}` in the config.") from None
    except ObservationError:
        raise
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ObservationError(
            f"{path}: is no table of {what} ({reason}). Expected CSV or Parquet with one row for each of the {what}."
        ) from error
    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    return frame


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in {".parquet", ".pq"}


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read Parquet; whole numbers with gaps, which are stored as real ones, are whole again."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ObservationError(f'{path}: reading Parquet needs pyarrow. Run: pip install "lit-invert[parquet]".')
    frame = pd.read_parquet(path)
    frame = frame.reset_index(drop=frame.index.name is None).convert_dtypes().astype(object)
    return frame.where(frame.notna(), "").map(str)


def _read_csv(path: Path) -> pd.DataFrame:
    """Read CSV; as text, so that a site called 007 keeps its name."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True, skip_blank_lines=False)
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first cells of such rows for labels
        raise ObservationError(
            f"{path}: row 2 has more cells than the line of column names. Name each column, and end no row with a comma."
        )
    return frame


def _known_columns(frame: pd.DataFrame, path: Path) -> dict[str, str]:
    """Return the column of the file for each of ours that is there."""
    found: dict[str, str] = {}
    for column, synonyms in COLUMNS.items():
        there = [name for name in frame.columns if name.casefold() in (column, *synonyms)]
        if len(there) > 1:
            raise ObservationError(f"{path}: columns {', '.join(map(repr, there))} mean the same. Keep one.")
        if there:
            found[column] = there[0]
    if "site" not in found:
        listed = ", ".join(frame.columns[:12])
        raise ObservationError(f"{path}: has no column 'site' (or id, site_id, unique_id). Found: {listed}.")
    return found


def _rows(frame: pd.DataFrame, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows that hold anything, with their numbers as a user counts them."""
    first = 1 if _is_parquet(path) else 2
    for row, values in enumerate(frame.to_dict("records"), start=first):
        cells = {str(name): "" if (text := value.strip()) in _EMPTY else text for name, value in values.items()}
        if any(cells.values()):
            yield row, cells


@dataclass(frozen=True)
class _Row:
    """One row of a catalogue, with its place for errors."""

    path: Path
    row: int
    cells: Mapping[str, str]
    columns: Mapping[str, str]

    def text(self, column: str, default: str = "") -> str:
        name = self.columns.get(column)
        return (self.cells[name] if name is not None else "") or default

    def number(self, column: str) -> float | None:
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ObservationError(f"{self.place(column)}: expected a number, found {text!r}.")
        return value

    def file(self, column: str, default: object) -> str | None:
        text = self.text(column)
        if not text:
            return None if default is None else str(default)
        return str((self.path.parent / Path(text).expanduser()).absolute())

    def place(self, column: str) -> str:
        return f"{self.path}: row {self.row}, column {self.columns[column]!r}"

    @property
    def others(self) -> dict[str, str]:
        return {name: value for name, value in self.cells.items() if name not in self.columns.values()}


def _entry(row: _Row, data: DataSettings) -> SiteEntry:
    name = row.text("site")
    if not name or name.startswith(".") or not name.isprintable() or _NOT_IN_NAMES & set(name):
        raise ObservationError(
            f"{row.place('site')}: expected a name that can be a folder's, printable, without a leading dot or any of "
            f"{' '.join(sorted(_NOT_IN_NAMES))}, found {name!r}."
        )
    latitude = row.number("latitude")
    if latitude is not None:
        try:
            check_latitude(latitude, "latitude")
        except ConfigError as error:
            raise ObservationError(f"{row.place('latitude')}: {error}") from None
    file = row.file("path", data.path)
    if file is None:
        raise ObservationError(f"{row.path}: row {row.row} ({name}): names no file. Fill its column 'path', or set `data.path`.")
    settings = replace(
        data,
        sites=None,
        path=file,
        drivers_path=row.file("drivers_path", data.drivers_path),
        site=name,
        latitude=data.latitude if latitude is None else latitude,
        query=row.text("query", data.query),
        years=row.text("years", data.years),
        observed=_observed(row, data),
        quality=_quality(row, data),
    )
    return SiteEntry(name, settings, row.number("longitude"), row.text("plant_type"), row.text("prior"), row.others)


def _observed(row: _Row, data: DataSettings) -> dict[str, ObservedSettings]:
    """Return how fluxes are read, with the column, unit, sign and uncertainty of the site's own NEP."""
    own: dict[str, Any] = {key: row.text(key) for key in ("column", "unit", "sign", "uncertainty") if row.text(key)}
    if not own:
        return data.observed
    if own.get("sign", "nep") not in ("nep", "nee"):
        raise ObservationError(f"{row.place('sign')}: expected 'nep' or 'nee', found {own['sign']!r}.")
    return {**data.observed, "nep": replace(data.observed.get("nep", ObservedSettings()), **own)}


def _quality(row: _Row, data: DataSettings) -> QualityRule | list[QualityRule] | None:
    """Return which days count as observed: by the site's own column of quality, or its own limits on that of all sites."""
    minimum, maximum = row.number("quality_minimum"), row.number("quality_maximum")
    if column := row.text("quality"):
        return QualityRule(column, minimum, maximum)
    if minimum is None and maximum is None:
        return data.quality
    rule = data.quality[0] if isinstance(data.quality, list) and len(data.quality) == 1 else data.quality
    if not isinstance(rule, QualityRule):
        raise ObservationError(
            f"{row.path}: row {row.row}: has limits of quality, but no column for them. "
            "Fill the site's 'quality', or set `data.quality` to one rule."
        )
    return QualityRule(rule.column, rule.minimum if minimum is None else minimum, rule.maximum if maximum is None else maximum)


def _check_names(names: Sequence[str], places: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, place in zip(names, places, strict=True):
        same = name.casefold()  # folders of some systems do not tell case
        if same in first:
            raise ObservationError(f"{place}: site {name!r} stands also in {first[same]}. Names must be unique.")
        first[same] = place


class Priors:
    """Priors of kinds of sites, where they differ from the table of parameters.

    Args:
        table: The table of parameters.
        rows: Priors by name, (P,) each, in the table's units.
    """

    def __init__(self, table: ParameterTable, rows: Mapping[str, Tensor]) -> None:
        self.table, self.rows = table, rows

    def of(self, entry: SiteEntry) -> Tensor | None:
        """Return the prior of a site: of the row that it names, else of its plant type, else of its own name; None: the table's.

        Raises:
            ObservationError: If it names a row that is not there.
        """
        if entry.prior and entry.prior not in self.rows:
            hint = suggest(entry.prior, self.rows) or " Set `data.priors`."
            raise ObservationError(f"site {entry.name!r}: prior {entry.prior!r} is no row of the table of priors.{hint}")
        named = next((name for name in (entry.prior, entry.plant_type, entry.name) if name in self.rows), None)
        return None if named is None else self.rows[named]


def load_priors(path: str | Path | None, table: ParameterTable) -> Priors:
    """Read the table of priors: a column `prior` with names, and one column a parameter; an empty cell is the table's prior.

    Args:
        path: CSV or Parquet file; None: there are none.
        table: The table of parameters.

    Raises:
        ObservationError: If the file is missing or malformed.
        ParameterTableError: If a column is no parameter, or a value is no number inside its bounds.
    """
    if path is None:
        return Priors(table, {})
    frame = _read(Path(path), "priors")
    if "prior" not in frame.columns:
        raise ParameterTableError(
            f"{path}: has no column 'prior' with the names of its rows. Found: {', '.join(frame.columns[:12])}."
        )
    for name in frame.columns:
        if name != "prior" and name not in table.names:
            raise ParameterTableError(f"{path}: column {name!r} is not a static parameter.{suggest(name, table.names)}")
    rows: dict[str, Tensor] = {}
    for row, cells in _rows(frame, Path(path)):
        if not cells["prior"] or cells["prior"] in rows:
            raise ParameterTableError(f"{path}: row {row}, column 'prior': {cells['prior']!r} is empty or stands twice.")
        rows[cells["prior"]] = _prior(table, cells, f"{path}: row {row}")
    return Priors(table, rows)


def _prior(table: ParameterTable, cells: Mapping[str, str], where: str) -> Tensor:
    prior = table.prior.clone()
    for name, text in cells.items():
        if name == "prior" or not text:
            continue
        try:
            prior[table.index(name)] = float(text)
        except ValueError:
            raise ParameterTableError(f"{where}, column {name!r}: expected a number, found {text!r}.") from None
    outside = (table.bounds.clip(prior) != prior).nonzero().flatten().tolist()
    if outside or not bool(torch.isfinite(prior).all()):
        worst = outside[0] if outside else int((~torch.isfinite(prior)).nonzero()[0])
        lower, upper = table.bounds.resolve(prior)
        raise ParameterTableError(
            f"{where}, column {table.names[worst]!r}: {prior[worst].item():g} is outside its bounds, "
            f"{lower[worst].item():g} to {upper[worst].item():g}."
        )
    return prior
