"""Reading a file that holds many sites once, not once a site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..plugins import Registry
from ..sites import DataSettings
from ..tables import DataReader


class RememberingReader:
    """A reader that keeps the last file it has read.

    Args:
        reader: What reads.
    """

    def __init__(self, reader: DataReader) -> None:
        self.reader, self.name = reader, reader.name
        self._known: tuple[tuple[Path, int, int], pd.DataFrame] | None = None

    def can_read(self, path: Path) -> bool:
        """Say whether the reader takes the file."""
        return self.reader.can_read(path)

    def read(self, path: Path, settings: DataSettings) -> pd.DataFrame:
        """Return the frame of the file, from memory where it is the last one and has not changed."""
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size)
        if self._known is None or self._known[0] != key:
            self._known = key, self.reader.read(path, settings)
        return self._known[1].copy(deep=False)


def remembering(registry: Registry) -> Registry:
    """Return the registry with readers that keep the last file they have read."""
    return replace(registry, data_readers={name: RememberingReader(reader) for name, reader in registry.data_readers.items()})
