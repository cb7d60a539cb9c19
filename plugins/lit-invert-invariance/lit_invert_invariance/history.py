"""What monitoring has found so far: one row a look, in a table that only grows.

The table is written whole or not at all, by one process at a time: looks at the same moment wait for each other, so that none
loses the row of another. One that is damaged, or has other columns, is left as it is: nobody can make it again.
"""

from __future__ import annotations

import csv
import fcntl
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from lit_invert.atomic import write_text
from lit_invert.errors import ResultsError

FILE, LOCK = "history.csv", ".history.csv.lock"


def append_row(folder: Path, row: Mapping[str, str | int | float]) -> int:
    """Add a row to history.csv, which is made if it is not there.

    Args:
        folder: Where it stands, made if it is not there.
        row: A value for each column; NaN leaves the cell empty.

    Returns:
        Number of the row, from 0.

    Raises:
        ResultsError: If there is a history that is damaged or has other columns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, columns = folder / FILE, list(row)
    with _locked(folder / LOCK):
        before = _read(path, columns) if path.exists() else _line(columns)
        write_text(path, before + _line([_cell(value) for value in row.values()]))
    return before.count("\n") - 1


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out; the table itself cannot be the lock, since writing it puts another file in its place."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path, columns: list[str]) -> str:
    """Return the text of a history, if it is whole and has these columns."""
    aside = "Move it away to begin another; it is left as it is."
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise ResultsError(f"{path}: is damaged, expected a table ({error}). {aside}") from error
    header = rows[0] if rows else []
    for place, (expected, found) in enumerate(zip_longest(map(repr, columns), map(repr, header), fillvalue="none"), 1):
        if found != expected:
            raise ResultsError(f"{path}: expected as column {place} {expected}, found {found}. {aside}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise ResultsError(f"{path}: is damaged in row {number}: expected {len(columns)} cells, found {len(row)}. {aside}")
    if not text.endswith("\n"):
        raise ResultsError(f"{path}: is damaged, its last row has no end. {aside}")
    return text


def show_row(folder: Path, row: Mapping[str, str | int | float], step: int) -> None:
    """Add a row to TensorBoard's curves in the same folder.

    Args:
        folder: Where the history stands.
        row: Its values; text and NaN have no curve.
        step: Number of the row.
    """
    with SummaryWriter(str(folder)) as writer:
        for name, value in row.items():
            if not isinstance(value, str) and math.isfinite(value):
                writer.add_scalar(name, value, step)


def _line(cells: list[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue()


def _cell(value: str | int | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.9g}"
    return str(value).replace("\n", " ")
