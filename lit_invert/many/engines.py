"""Where chunks run. An engine takes chunks and gives back summaries, in whatever order they are finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..fit import FitConfig
from ..plugins import Registry
from .chunk import Chunk, ChunkFitter, ChunkSummary


class Engine(Protocol):
    """Runs chunks of sites."""

    def run(self, chunks: Sequence[Chunk]) -> Iterator[ChunkSummary]:
        """Fit the chunks, and yield the summary of each when its rows are written."""
        ...


class LocalEngine:
    """Runs one chunk after the other in this process; batches and kernels use its cores.

    Args:
        config: The config of the run.
        registry: What the plugins registered.
        folder: Folder of the run.
    """

    def __init__(self, config: FitConfig, registry: Registry, folder: Path) -> None:
        self._fitter = ChunkFitter(config, registry, folder)

    def run(self, chunks: Sequence[Chunk]) -> Iterator[ChunkSummary]:
        """Fit the chunks in order."""
        for chunk in chunks:
            yield self._fitter.fit(chunk)


def build_engine(config: FitConfig, registry: Registry, folder: Path) -> Engine:
    """Return the engine that `scale.engine` names.

    Raises:
        ConfigError: If it is Ray, which is not installed.
    """
    if config.scale.engine == "ray":
        from .ray_engine import RayEngine  # Ray is an extra, and takes seconds to import

        return RayEngine(config, folder)
    return LocalEngine(config, registry, folder)
