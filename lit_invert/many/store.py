"""The folder of a run over many sites: parts that chunks write, and the tables that they are joined to.

Each chunk writes its rows of the three tables into `parts/`, that of sites last, so that a chunk counts only when it is whole. The
parts are joined by copying, a file at a time.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
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

    def join(self, parquet: bool) -> pd.DataFrame:
        """Join the parts to tables, and return that of the sites."""
        sites = pd.concat([frame for _, frame in self._site_parts()], ignore_index=True)
        write_text(self.folder / "sites.csv", to_csv(sites))
        for name in TABLES[:-1]:
            self._join(name)
        if parquet:
            for name in TABLES:
                _to_parquet(self.folder / f"{name}.csv")
        return sites

    def _site_parts(self) -> Iterator[tuple[Path, pd.DataFrame]]:
        text = dict.fromkeys(("site", "status", "message", "plant_type", "prior", "at_bound"), str)
        for path in sorted(self.parts.glob("*.sites.csv")):
            frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
            yield path, frame.fillna(dict.fromkeys(text, ""))

    def _join(self, name: str) -> None:
        """Copy the parts of whole chunks one after the other, the header once."""
        target = self.folder / f"{name}.csv"
        temporary = target.with_suffix(".part")
        whole = sorted(path.name.removesuffix(".sites.csv") for path in self.parts.glob("*.sites.csv"))
        header = ""
        with temporary.open("w", encoding="utf-8", newline="") as joined:
            for chunk in whole:
                with (self.parts / f"{chunk}.{name}.csv").open(encoding="utf-8", newline="") as part:
                    first = part.readline()
                    if first.strip() and not header:
                        header = first
                        joined.write(first)
                    for line in part:
                        joined.write(line)
        temporary.replace(target)


def _to_parquet(path: Path) -> None:
    """Copy a CSV table to Parquet, some rows at a time."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ResultsError('`scale.parquet` needs pyarrow. Run: pip install "lit-invert[parquet]".')
    import pyarrow
    import pyarrow.parquet

    writer: Any = None
    for frame in pd.read_csv(path, chunksize=_ROWS_AT_ONCE, dtype_backend="pyarrow"):
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        writer = writer or pyarrow.parquet.ParquetWriter(path.with_suffix(".parquet"), table.schema)
        writer.write_table(table.cast(writer.schema))
    if writer is not None:
        writer.close()
