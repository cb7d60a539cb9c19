"""Daily tables as they lie on disk: one row a day, columns with whatever names the tower people gave them.

A :class:`DataReader` turns a file into a frame; CSV and Parquet are built in and plugins add more. :func:`load_table` then finds
the column of dates, picks one site out of a long table, and checks that each row is a new, later day. What comes out is a
:class:`DailyTable`, which knows for every value the file, the row and the column it came from, so that complaints can name them.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import ObservationError, suggest

if TYPE_CHECKING:
    from .sites import DataSettings

#: Columns that may hold the date, in order of preference: ours, FLUXNET's, the long form's.
DATE_COLUMNS = ("date", "TIMESTAMP", "ds")
#: FLUXNET's code for a missing value.
MISSING = -9999.0
#: Values of a queried column that an error lists.
_NAMES_SHOWN = 8


class DataReader(Protocol):
    """Turns a file into a frame; plugins register more through `register_data_readers`."""

    name: str

    def can_read(self, path: Path) -> bool:
        """Say whether this reader takes the file, judged by its name alone."""

    def read(self, path: Path, settings: DataSettings) -> pd.DataFrame:
        """Read the file.

        Args:
            path: An existing file.
            settings: The block `data:` of the config.

        Returns:
            A frame with one row a day in the file's order, a column `date`, `TIMESTAMP` or `ds`, and raw columns under the
            names they have in the file; its index holds the row numbers that a user would count. A file that says what its
            columns mean puts it into `attrs`: `units` and `signs` by column, and `notes`, a sentence each.
        """


class CsvReader:
    """Comma-separated text with one line of column names."""

    name = "csv"

    def can_read(self, path: Path) -> bool:
        """Take `.csv` and `.txt`."""
        return path.suffix.lower() in {".csv", ".txt"}

    def read(self, path: Path, settings: DataSettings) -> pd.DataFrame:
        """Read the text; row numbers are line numbers, and the column of `query` keeps its spelling."""
        text = dict.fromkeys((*DATE_COLUMNS, "unique_id", query_column(settings.query)), str)
        try:
            frame = pd.read_csv(path, dtype=text, encoding="utf-8-sig", skip_blank_lines=False)
        except (ValueError, pd.errors.EmptyDataError) as error:
            reason = " ".join(str(error).split())
            raise ObservationError(
                f"{path}: is not a CSV file ({reason}). Expected UTF-8 text with one line of column names, separated by commas."
            ) from error
        if len(frame.columns) == 1 and ";" in str(frame.columns[0]):
            raise ObservationError(f"{path}: columns are separated by ';', expected ','. Save the file with commas.")
        frame.columns = frame.columns.str.strip()
        frame.index = pd.RangeIndex(2, len(frame) + 2)
        return frame.dropna(how="all")


class ParquetReader:
    """Apache Parquet; needs the extra `parquet`."""

    name = "parquet"

    def can_read(self, path: Path) -> bool:
        """Take `.parquet` and `.pq`."""
        return path.suffix.lower() in {".parquet", ".pq"}

    def read(self, path: Path, settings: DataSettings) -> pd.DataFrame:
        """Read the file; rows count from 1."""
        if importlib.util.find_spec("pyarrow") is None:
            raise ObservationError(f'{path}: reading Parquet needs pyarrow. Run: pip install "lit-invert[parquet]".')
        try:
            frame = pd.read_parquet(path).reset_index()
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ObservationError(f"{path}: is not a Parquet file ({reason}).") from error
        frame.index = pd.RangeIndex(1, len(frame) + 1)
        return frame


@dataclass(frozen=True)
class DailyTable:
    """Rows of consecutive, though perhaps not adjacent, days."""

    path: Path
    frame: pd.DataFrame
    """Raw columns; the index holds row numbers as a user counts them."""
    dates: NDArray[np.datetime64]
    """A (N,)-dim array, strictly increasing."""

    def has(self, column: str) -> bool:
        """Say whether there is a column of that name."""
        return column in self.frame.columns

    def unit(self, column: str) -> str | None:
        """Return the unit that the file itself states for a column; text files state none."""
        unit: str | None = self.frame.attrs.get("units", {}).get(column)
        return unit

    def sign(self, column: str) -> str | None:
        """Return the sign, `nep` or `nee`, that the file itself states for a net flux."""
        sign: str | None = self.frame.attrs.get("signs", {}).get(column)
        return sign

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done on reading, a sentence each."""
        return tuple(self.frame.attrs.get("notes", ()))

    def place(self, position: int, column: str) -> str:
        """Say where a value stands: file, row, column and date."""
        row, date = self.frame.index[position], self.dates[position]
        return f"{self.path}: row {row} ({date}), column {column!r}"

    def numbers(self, column: str, asked_by: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where the file has no value or -9999.

        Args:
            column: Name of the column.
            asked_by: Key of the config that names it, for the error.

        Returns:
            A (N,)-dim array.

        Raises:
            ObservationError: If there is no such column, or a cell is not a finite number.
        """
        if not self.has(column):
            raise ObservationError(
                f"{self.path}: has no column {column!r}, which {asked_by} asks for.{suggest(column, map(str, self.frame.columns))}"
            )
        raw = self.frame[column]
        values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        wrong = np.flatnonzero((np.isnan(values) & raw.notna().to_numpy()) | np.isinf(values))
        if wrong.size:
            found = raw.iloc[[wrong[0]]].tolist()[0]
            raise ObservationError(
                f"{self.place(wrong[0], column)}: expected a finite number, found {found!r}. "
                "Correct it, or leave the cell empty where there is no value."
            )
        values[values == MISSING] = np.nan
        return values


def agreed(table: DailyTable, column: str, key: str, stated: str | None, found: str | None) -> str | None:
    """Return what the config states of a column, or else what the file states.

    Args:
        table: The file.
        column: The column.
        key: Key of the config, such as `data.observed.nep.unit`.
        stated: What the config says, if anything.
        found: What the file says, if anything.

    Raises:
        ObservationError: If both say something, and not the same.
    """
    if stated is not None and found is not None and stated != found:
        raise ObservationError(
            f"{table.path}: column {column!r} is {found!r} by its own attributes, but `{key}` is {stated!r}. "
            "Leave the key out, or mend the file."
        )
    return found if stated is None else stated


def load_table(path: Path, settings: DataSettings, readers: Mapping[str, DataReader]) -> DailyTable:
    """Read a file of daily rows and check its dates.

    Args:
        path: The file.
        settings: The block `data:` of the config; `query`, or `site` as the `unique_id`, picks rows where the file holds several
            sites, `years` picks years.
        readers: Readers by name.

    Returns:
        The table.

    Raises:
        ObservationError: If there is no such file or reader, or dates are missing, malformed, repeated or out of order.
    """
    if not path.is_file():
        raise ObservationError(f"{path}: no such file. Check the paths in the block `data:` of the config.")
    frame = _pick_reader(path, readers).read(path, settings)
    frame = _pick_rows(frame, settings.query, path) if settings.query else _pick_site(frame, settings.site, path)
    if frame.empty:
        raise ObservationError(f"{path}: has no rows. Expected one row a day below the line of column names.")
    dates = _parse_dates(frame, path)
    if settings.years:
        chosen = _in_years(dates, settings.years, path)
        frame, dates = frame[chosen], dates[chosen]
    _check_order(frame, dates, path)
    return DailyTable(path, frame, dates)


def _pick_reader(path: Path, readers: Mapping[str, DataReader]) -> DataReader:
    for _, reader in sorted(readers.items()):
        if reader.can_read(path):
            return reader
    raise ObservationError(f"{path}: no reader for files named '*{path.suffix}'. Known readers: {', '.join(sorted(readers))}.")


def _pick_site(frame: pd.DataFrame, site: str, path: Path) -> pd.DataFrame:
    """Keep the rows of one `unique_id` of a long table; a table without that column is one site."""
    if "unique_id" not in frame.columns:
        return frame
    names = frame["unique_id"].astype(str).str.strip()
    known = sorted(names.unique())
    if len(known) > 1 and site not in known:
        raise ObservationError(
            f"{path}: holds {len(known)} sites and `data.site` is {site!r}. Set it to one of them.{suggest(site, known)}"
        )
    return frame[names == site] if len(known) > 1 else frame


def query_column(query: str) -> str:
    """Return the column that a query names, empty if there is none.

    Example:
        >>> query_column("tower = 007")
        'tower'
    """
    return query.partition("=")[0].strip()


def _pick_rows(frame: pd.DataFrame, query: str, path: Path) -> pd.DataFrame:
    """Keep the rows that a query `column = value` names."""
    column, value = query_column(query), query.partition("=")[2].strip()
    if not column or not value:
        raise ObservationError(f"`data.query` is {query!r}, expected `column = value`, such as `tower = A1`.")
    if column not in frame.columns:
        raise ObservationError(
            f"{path}: has no column {column!r}, which `data.query` asks for.{suggest(column, map(str, frame.columns))}"
        )
    cells = frame[column].convert_dtypes()  # Parquet has whole numbers with gaps as real ones, 1.0
    names = cells.astype(str).str.strip()
    chosen = (names == value).to_numpy(dtype=bool)
    if not chosen.any():
        first = ", ".join(names.dropna().unique()[:_NAMES_SHOWN])
        raise ObservationError(
            f"{path}: no row has {value!r} in column {column!r}, as `data.query` asks for. Its first values are: {first}."
        )
    return frame[chosen]


def _in_years(dates: NDArray[np.datetime64], years: str, path: Path) -> NDArray[np.bool_]:
    """Say which days lie in `first-last`, or in one year."""
    parsed = re.fullmatch(r"\s*(\d{4})(?:\s*-\s*(\d{4}))?\s*", years)
    if parsed is None:
        raise ObservationError(f"`data.years` is {years!r}, expected a year or the first and the last, such as 2009-2012.")
    first, last = (np.datetime64(f"{year}-01-01", "D") for year in (int(parsed[1]), int(parsed[2] or parsed[1]) + 1))
    chosen = (dates >= first) & (dates < last)
    if not chosen.any():
        raise ObservationError(f"{path}: has no day in {years}; its days are {dates[0]} to {dates[-1]}. Mend `data.years`.")
    return np.asarray(chosen)


def _parse_dates(frame: pd.DataFrame, path: Path) -> NDArray[np.datetime64]:
    column = next((name for name in DATE_COLUMNS if name in frame.columns), None)
    if column is None:
        raise ObservationError(
            f"{path}: has no column of dates, expected one named {', '.join(map(repr, DATE_COLUMNS))}; "
            f"found {', '.join(map(str, frame.columns[:8]))}."
        )
    text = frame[column].astype(str).str.strip().str.removesuffix(" 00:00:00")
    compact = re.fullmatch(r"\d{8}", text.iloc[0]) is not None
    parsed = pd.to_datetime(text, format="%Y%m%d" if compact else "%Y-%m-%d", errors="coerce")
    wrong = np.flatnonzero(parsed.isna())
    if wrong.size:
        raise ObservationError(
            f"{path}: row {frame.index[wrong[0]]}, column {column!r}: expected a day as "
            f"{'20160131' if compact else '2016-01-31 or 20160131'}, found {text.iloc[wrong[0]]!r}. "
            "Half-hourly files must be averaged to days first."
        )
    return parsed.to_numpy().astype("datetime64[D]")


def _check_order(frame: pd.DataFrame, dates: NDArray[np.datetime64], path: Path) -> None:
    first_seen: dict[np.datetime64, int] = {}
    for row, date in zip(frame.index, dates, strict=True):
        if date in first_seen:
            raise ObservationError(f"{path}: rows {first_seen[date]} and {row} are both dated {date}. Keep one row a day.")
        first_seen[date] = row
    steps = np.flatnonzero(np.diff(dates) < np.timedelta64(0, "D"))
    if steps.size:
        before, after = steps[0], steps[0] + 1
        raise ObservationError(
            f"{path}: row {frame.index[after]} ({dates[after]}) comes after row {frame.index[before]} ({dates[before]}). "
            "Sort the rows by date."
        )
