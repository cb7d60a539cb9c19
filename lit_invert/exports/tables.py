"""Every table of a run in one format, and its scores as one more."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ..atomic import write_bytes
from ..errors import ConfigError, ResultsError
from ..results import Run
from ..results.folder import to_csv

#: Tables whose cells are read as the run itself reads them.
_OWN = ("fluxes", "parameters", "history")


def every_table(run: Run) -> dict[str, pd.DataFrame]:
    """Return every table of a run by its name, and `scores`, a row a role, flux, run and score.

    Raises:
        ResultsError: If a table is damaged.
    """
    tables = {path.stem: _read(run, path) for path in sorted(run.folder.glob("*.csv"))}
    return {**tables, "scores": pd.DataFrame(_scores(run.metrics), columns=["role", "flux", "run", "score", "value"])}


def write_tables(run: Run, folder: Path, kind: Literal["parquet", "csv"]) -> list[Path]:
    """Write every table of a run.

    Args:
        run: A finished run.
        folder: An existing folder for them, not that of the run.
        kind: The format.

    Returns:
        Their paths.

    Raises:
        ConfigError: If Parquet is wanted and pyarrow is not installed.
        ResultsError: If a table is damaged, or a file cannot be written.
    """
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError('writing Parquet needs pyarrow. Run: pip install "lit-invert[parquet]".')
    paths = []
    for name, table in every_table(run).items():
        paths.append(folder / f"{name}.{kind}")
        try:
            write_bytes(paths[-1], _parquet(table) if kind == "parquet" else to_csv(table).encode())
        except OSError as error:
            raise ResultsError(f"{paths[-1]}: cannot be written ({error.strerror}). Choose another place.") from error
    return paths


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _read(run: Run, path: Path) -> pd.DataFrame:
    if path.stem in _OWN:
        table: pd.DataFrame = getattr(run, path.stem)
        return table
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise ResultsError(f"{path}: is damaged, expected a table ({error}). Run the inversion again.") from error


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, float | None]]:
    """Yield every score of every run, and the number of days as a score of the observations."""
    for role, fluxes in metrics["roles"].items():
        for flux, found in fluxes.items():
            yield role, flux, "observed", "n", found["n"]
            for run, scores in found.items():
                if isinstance(scores, Mapping):
                    yield from ((role, flux, run, score, value) for score, value in scores.items())
