"""The folder of a run over many sites: parts that chunks write, and the tables that they are joined to.

Each chunk writes its rows of the three tables into `parts/`, that of sites last, so that a chunk counts only when it is whole. The
parts are joined by copying, a file at a time.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import pandas as pd

from ..atomic import write_text
from ..errors import ResultsError
from ..results import to_csv

#: Tables of a run; `sites` stands last, since a chunk whose sites are there is whole.
TABLES = ("parameters", "metrics", "sites")
#: Status of a site that has no result.
FAILED = "failed"
#: Columns of text by table, for a site called 007 is no number.
_TEXT = {
    "parameters": ("site", "name", "unit", "scale", "at_bound", "class", "traded_with"),
    "metrics": ("site", "flux", "role", "run"),
    "sites": ("site", "status", "message", "plant_type", "prior", "at_bound", "determined", "checks_passed", "advice"),
}
#: Columns of whole numbers and of yes or no; all others hold real numbers.
_WHOLE = ("n", "days", "fit_days", "select_days", "test_days", "iterations", "rank")
_BOOLEAN = ("fixed",)
_ROWS_AT_ONCE = 100_000


def chunk_name(first: int, sites: Sequence[str]) -> str:
    """Return the name of a chunk's parts: its place in the catalogue, and a hash of its sites."""
    digest = hashlib.sha256("\n".join(sites).encode()).hexdigest()
    return f"{first:06d}-{digest[:12]}"


class Store:
    """The parts and tables of one run.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.parts = folder, folder / "parts"

    def write(self, chunk: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Write the rows of a chunk.

        Args:
            chunk: Its name.
            tables: Rows by the name of the table.

        Raises:
            ResultsError: If a file cannot be written.
        """
        try:
            self.parts.mkdir(exist_ok=True)
            for name in TABLES:
                write_text(self.parts / f"{chunk}.{name}.csv", to_csv(tables[name]))
        except OSError as error:
            raise ResultsError(
                f"{self.parts}: results cannot be written ({error.strerror}). Check free space and rights."
            ) from error

    def has(self, chunk: str) -> bool:
        """Say whether a chunk is whole."""
        return (self.parts / f"{chunk}.sites.csv").is_file()

    def finished(self) -> set[str]:
        """Return the names of the sites that have a row."""
        return {str(site) for _, frame in self._site_parts() for site in frame["site"]}

    def forget_failures(self) -> None:
        """Take the rows of failed sites out, so that they can be fitted again."""
        for path, frame in self._site_parts():
            kept = frame[frame["status"] != FAILED]
            if not len(kept):
                path.unlink()
            elif len(kept) < len(frame):
                write_text(path, to_csv(kept))

    def join(self, parquet: bool, order: Sequence[str] | None = None) -> pd.DataFrame:
        """Join the parts to tables, and return that of the sites.

        Args:
            parquet: Whether to copy the tables to Parquet, too.
            order: Names of the sites that the tables hold, in the order of that of the sites; as the parts have them when omitted.
        """
        sites = pd.concat([frame for _, frame in self._site_parts()], ignore_index=True)
        if order is not None:
            by_name = sites.set_index("site")
            sites = by_name.loc[[name for name in order if name in by_name.index]].reset_index()
        write_text(self.folder / "sites.csv", to_csv(sites))
        for name in TABLES[:-1]:
            self._join(name, order)
        if parquet:
            for name in TABLES:
                _to_parquet(self.folder / f"{name}.csv")
        return sites

    def _site_parts(self) -> Iterator[tuple[Path, pd.DataFrame]]:
        text = dict.fromkeys(_TEXT["sites"], str)
        for path in sorted(self.parts.glob("*.sites.csv")):
            frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
            yield path, frame.fillna(dict.fromkeys(text, ""))

    def _join(self, name: str, order: Sequence[str] | None) -> None:
        """Copy the parts of whole chunks one after the other, column by column: a run may go on with a version that knows more."""
        target = self.folder / f"{name}.csv"
        temporary = target.with_suffix(".part")
        whole = sorted(path.name.removesuffix(".sites.csv") for path in self.parts.glob("*.sites.csv"))
        parts = [self.parts / f"{chunk}.{name}.csv" for chunk in whole]
        columns = list(dict.fromkeys(column for part in parts for column in _columns(part)))
        kept = None if order is None else frozenset(order)
        with temporary.open("w", encoding="utf-8", newline="") as joined:
            writer = csv.DictWriter(joined, columns, restval="", lineterminator="\n")
            if columns:
                writer.writeheader()
            for part in parts:
                writer.writerows(_rows(part, kept))
        temporary.replace(target)


def _columns(part: Path) -> list[str]:
    """Return the header of a part, empty where it holds no table."""
    with part.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def _rows(part: Path, sites: Set[str] | None) -> Iterator[dict[str, str]]:
    """Yield the rows of these sites, of all if none are given."""
    with part.open(encoding="utf-8", newline="") as stream:
        yield from (row for row in csv.DictReader(stream) if sites is None or row["site"] in sites)


def check_parquet() -> None:
    """Check that tables can be copied to Parquet.

    Raises:
        ResultsError: If pyarrow is missing.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ResultsError('`scale.parquet` needs pyarrow. Run: pip install "lit-invert[parquet]".')


def _to_parquet(path: Path) -> None:
    """Copy a CSV table to Parquet, some rows at a time; the empty file of a run in which every site failed has no copy."""
    import pyarrow
    import pyarrow.parquet

    if not path.stat().st_size:
        return
    types = _types(path.stem, pd.read_csv(path, nrows=0).columns)
    arrow = {str: pyarrow.string(), "Int64": pyarrow.int64(), "boolean": pyarrow.bool_(), "float64": pyarrow.float64()}
    schema = pyarrow.schema([(column, arrow[kind]) for column, kind in types.items()])
    with pyarrow.parquet.ParquetWriter(path.with_suffix(".parquet"), schema) as writer:
        for frame in pd.read_csv(path, chunksize=_ROWS_AT_ONCE, dtype=types, keep_default_na=False, na_values=[""]):
            writer.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False))


def _types(table: str, columns: Iterable[str]) -> dict[str, Any]:
    """Return the type of each column, by its name alone, so that every piece of a table has the same."""
    known = {**dict.fromkeys(_WHOLE, "Int64"), **dict.fromkeys(_BOOLEAN, "boolean"), **dict.fromkeys(_TEXT[table], str)}
    return {column: known.get(column, "float64") for column in columns}
