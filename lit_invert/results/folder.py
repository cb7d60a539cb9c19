"""The folder of a run: made once, written whole.

Every file is written atomically and `status.json` comes last, so a folder whose status is `running` belongs to a run that still
runs or was killed, and its other files are not to be trusted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..atomic import write_text
from ..errors import ResultsError
from ..extensions import Verdict
from ..sites import SealedObservations, Site
from ..surrogates.base import SurrogateSpec
from .result import InversionResult, InversionStatus
from .summary import summarise
from .tables import flux_table, forcing_table, parameter_table

#: Nine digits tell any two float32 numbers apart, and hide the last bits of float64 in which machines differ.
_FLOAT_FORMAT = "%.9g"


def open_run_folder(root: Path, name: str) -> Path:
    """Make the folder of a new run, `root/name/version_N`, with N one above the highest there.

    Two runs that start at once get two folders.

    Args:
        root: Folder of all runs.
        name: Name of the run.

    Returns:
        The new folder, with status `running`.

    Raises:
        ResultsError: If the name is not a plain folder name, or the folder cannot be made.
    """
    if not name or Path(name).name != name or name in (".", ".."):
        raise ResultsError(f"run name {name!r}: expected a plain folder name without slashes. Change `name` in the config.")
    try:
        folder = _make_next(root / name)
    except OSError as error:
        raise ResultsError(f"{root / name}: results folder cannot be made ({error.strerror}). Choose another place.") from error
    write_status(folder, "running", "The run has started.")
    return folder


def list_versions(runs: Path) -> list[Path]:
    """Return the folders `version_N` of a run's name, the oldest first; none where there is no such place.

    Example:
        >>> import tempfile
        >>> runs = Path(tempfile.mkdtemp())
        >>> for name in ("version_10", "version_9", "version_old", "7"):
        ...     (runs / name).mkdir()
        >>> [folder.name for folder in list_versions(runs)]
        ['version_9', 'version_10']
    """
    return sorted((path for path in runs.glob("version_*") if _number_of(path).isdecimal()), key=lambda path: int(_number_of(path)))


def _number_of(folder: Path) -> str:
    return folder.name.removeprefix("version_")


def _make_next(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(_number_of(folder)) for folder in list_versions(parent)), default=-1)
    while True:
        try:
            (parent / f"version_{number}").mkdir()
        except FileExistsError:  # another run took it since we looked
            number += 1
        else:
            return parent / f"version_{number}"


@dataclass(frozen=True)
class RunTables:
    """Everything that a finished inversion leaves, as tables."""

    result: InversionResult
    fluxes: pd.DataFrame
    """As `flux_table` returns it."""
    parameters: pd.DataFrame
    """As `parameter_table` returns it."""
    metrics: dict[str, Any]
    """What metrics.json holds, with NaN where the file has null."""
    forcing: pd.DataFrame
    """As `forcing_table` returns it."""
    more: Mapping[str, pd.DataFrame | Mapping[str, Any]] = field(default_factory=dict)
    """Further tables and values, by the name of their file: what an analysis beyond the optimum found."""

    def advise(self, *sentences: str) -> RunTables:
        """Return the tables with more for a reader to be told."""
        return replace(self, metrics={**self.metrics, "advice": [*self.metrics["advice"], *sentences]})


def tabulate(
    result: InversionResult,
    site: Site,
    sealed_test: SealedObservations,
    spec: SurrogateSpec,
    resimulated: NDArray[np.float64] | None = None,
    verdicts: Sequence[Verdict] = (),
    support: Mapping[str, Any] | None = None,
) -> RunTables:
    """Lay out what an inversion found. This is the one place where the `test` days are opened.

    Args:
        result: The inversion.
        site: Its site.
        sealed_test: The observed `test` days, still sealed.
        spec: The surrogate's spec.
        resimulated: Fluxes of the process model at the optimum, (T, V) [gC m-2 d-1]; None without a process model.
        verdicts: What the checks before the fit found.
        support: How far the surrogate was trained for this optimum, where that was measured.
    """
    fluxes = flux_table(result, site, sealed_test.open(), resimulated, spec)
    parameters = parameter_table(result, spec)
    metrics = {
        "site": site.name,
        "latitude": site.latitude,
        "drivers": {driver.name: driver.unit for driver in spec.drivers},
        **summarise(result, fluxes, parameters, spec, support),
        "notes": list(site.notes),
        "checks": [asdict(verdict) for verdict in verdicts],
    }
    return RunTables(result, fluxes, parameters, metrics, forcing_table(site))


def write_results(folder: Path, tables: RunTables, *, config_text: str, provenance: Mapping[str, Any]) -> None:
    """Write all files of a finished run, and how it ended.

    Args:
        folder: Folder of the run, from :func:`open_run_folder`.
        tables: From :func:`tabulate`.
        config_text: The resolved config, as YAML.
        provenance: From :func:`lit_invert.results.collect_provenance`.

    Raises:
        ResultsError: If a file cannot be written.
    """
    write_tables(folder, tables, config_text=config_text, provenance=provenance)
    write_status(folder, tables.result.status, tables.result.message)


def write_tables(folder: Path, tables: RunTables, *, config_text: str, provenance: Mapping[str, Any]) -> None:
    """Write the files of a run that still goes on, as :func:`write_results` does of one that has ended."""
    files = {
        "config.yaml": config_text,
        "parameters.csv": to_csv(tables.parameters),
        "fluxes.csv": to_csv(tables.fluxes),
        "forcing.csv": to_csv(tables.forcing),
        "history.csv": to_csv(tables.result.history),
        "provenance.json": to_json(provenance),
        "metrics.json": to_json(tables.metrics),
        **({} if tables.result.starts is None else {"starts.csv": to_csv(tables.result.starts)}),
        **{name: to_csv(item) if isinstance(item, pd.DataFrame) else to_json(item) for name, item in tables.more.items()},
    }
    try:
        for name, text in files.items():
            write_text(folder / name, text)
    except OSError as error:
        raise ResultsError(f"{folder}: results cannot be written ({error.strerror}). Check free space and rights.") from error


def write_status(folder: Path, status: InversionStatus | str, message: str) -> None:
    """Write status.json: how the run ended, or that it is still running.

    Args:
        folder: Folder of the run.
        status: How it ended; `FAILED` for a run that raised.
        message: One sentence, such as the error's.
    """
    key = status.key if isinstance(status, InversionStatus) else status
    write_text(folder / "status.json", to_json({"status": key, "message": message}))


def to_csv(frame: pd.DataFrame) -> str:
    """Return a table as the text of a CSV file."""
    text: str = frame.to_csv(index=False, float_format=_FLOAT_FORMAT, lineterminator="\n")
    return text


def to_json(values: Mapping[str, Any]) -> str:
    """Return values as the text of a JSON file, null where a number is not finite."""
    return json.dumps(_finite(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not know, by None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
