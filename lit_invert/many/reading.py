"""Reading a file that holds many sites once, not once a site; and making sure that it holds the site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..errors import ObservationError
from ..netcdf import NetcdfReader
from ..plugins import Registry
from ..sites import DataSettings
from ..tables import CsvReader, DataReader, ParquetReader, query_column

#: Files that are remembered: sites may have their weather in another long table, and be listed in turns.
_FILES = 4


class RememberingReader:
    """A reader for the sites of a catalogue, that keeps the last files it has read.

    Args:
        reader: What reads.
    """

    def __init__(self, reader: DataReader) -> None:
        self.reader, self.name = reader, reader.name
        self._known: dict[tuple[object, ...], pd.DataFrame] = {}

    def can_read(self, path: Path) -> bool:
        """Say whether the reader takes the file."""
        return self.reader.can_read(path)

    def read(self, path: Path, settings: DataSettings) -> pd.DataFrame:
        """Return the frame of the file, from memory where it is known and has not changed.

        Raises:
            ObservationError: If all rows of the file are those of another site.
        """
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size, self._matters(settings))
        frame = self._known.pop(key, None)
        if frame is None:
            frame = self.reader.read(path, settings)
        self._known[key] = frame  # as the latest
        if len(self._known) > _FILES:
            del self._known[next(iter(self._known))]
        _check_site(frame, path, settings)
        return frame.copy(deep=False)

    def _matters(self, settings: DataSettings) -> str:
        """Return what in the settings decides what a file is read as; of a plugin's reader nobody knows, so all of them."""
        is_ours = type(self.reader) in (CsvReader, ParquetReader, NetcdfReader)
        return query_column(settings.query) if is_ours else repr(settings)


def _check_site(frame: pd.DataFrame, path: Path, settings: DataSettings) -> None:
    """Refuse a file of one other site; by itself a site may be called otherwise than its file does, in a catalogue it is a slip."""
    if "unique_id" not in frame.columns or settings.query or not settings.site:
        return
    names = frame["unique_id"].astype(str).str.strip().unique()
    if len(names) == 1 and names[0] != settings.site:
        raise ObservationError(
            f"{path}: all its rows have unique_id {names[0]!r}, expected {settings.site!r}. "
            f"Mend the site's `path`, or give its rows as `query`: unique_id = {names[0]}."
        )


def remembering(registry: Registry) -> Registry:
    """Return the registry with readers that keep the last files they have read."""
    return replace(registry, data_readers={name: RememberingReader(reader) for name, reader in registry.data_readers.items()})
