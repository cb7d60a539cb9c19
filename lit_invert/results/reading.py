"""Open the folder of a run again: for figures, report, and whoever comes later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ResultsError

_TEXT_COLUMNS = ("name", "unit", "scale", "at_bound", "description")


@dataclass(frozen=True)
class Run:
    """A finished run, as its folder tells it; files are read when asked for."""

    folder: Path

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json, None where a score has no meaning."""
        return load_metrics(self.folder)

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """Content of parameters.csv."""
        return load_parameters(self.folder)

    @cached_property
    def fluxes(self) -> pd.DataFrame:
        """Content of fluxes.csv, with `date` as dates."""
        return _read_csv(self.folder / "fluxes.csv", parse_dates=["date"])

    @cached_property
    def history(self) -> pd.DataFrame:
        """Content of history.csv."""
        return _read_csv(self.folder / "history.csv")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Content of provenance.json."""
        return _read_json(self.folder / "provenance.json")

    @property
    def outputs(self) -> list[str]:
        """Names of the simulated fluxes, in order."""
        columns = [str(column) for column in self.fluxes]
        return [column.removesuffix("_prior") for column in columns if column.endswith("_prior")]


def read_run(path: str | Path) -> Run:
    """Open a finished run.

    Args:
        path: Its folder, `.../version_N`.

    Raises:
        ResultsError: If there is no such folder, it is no run, or the run did not finish.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ResultsError(f"{folder}: no such folder. Expected the folder of a run, as logs/<name>/version_0.")
    if not (folder / "status.json").is_file():
        versions = sorted(folder.glob("version_*"), key=lambda p: (len(p.name), p.name))
        hint = f" Did you mean {str(versions[-1])!r}?" if versions else " Expected logs/<name>/version_N."
        raise ResultsError(f"{folder}: is not the folder of a run, it has no `status.json`.{hint}")
    status = _read_json(folder / "status.json")
    if (folder / "sites.csv").is_file():
        raise ResultsError(
            f"{folder}: is a run over many sites. Open the folder of one, {folder / 'sites'}/<site>; "
            "`scale.site_folders: true` writes them."
        )
    if not (folder / "metrics.json").is_file():
        raise ResultsError(
            f"{folder}: the run has no results; its status is {status.get('status')!r}: {status.get('message')} Run it again."
        )
    return Run(folder)


def load_metrics(folder: Path) -> dict[str, Any]:
    """Return the content of metrics.json, None where a score has no meaning.

    Raises:
        ResultsError: If the file is missing or damaged.
    """
    return _read_json(folder / "metrics.json")


def load_parameters(folder: Path) -> pd.DataFrame:
    """Return the content of parameters.csv.

    Raises:
        ResultsError: If the file is missing or damaged.
    """
    # Cells as they are, so that a parameter named `NA` keeps its name; no number of this table is ever missing.
    return _read_csv(folder / "parameters.csv", keep_default_na=False, dtype=dict.fromkeys(_TEXT_COLUMNS, str))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: is damaged, expected JSON ({error}). Run the inversion again.") from error
    if not isinstance(values, dict):
        raise ResultsError(f"{path}: is damaged, expected a JSON object, found {type(values).__name__}. Run the inversion again.")
    return values


def _read_csv(path: Path, **options: Any) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pd.read_csv(path, **options)
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: is damaged, expected a table ({error}). Run the inversion again.") from error
    return frame


def _missing(path: Path) -> ResultsError:
    return ResultsError(f"{path.parent}: has no `{path.name}`. Expected the folder of a finished run, as logs/<name>/version_0.")
