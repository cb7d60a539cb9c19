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
#: Columns of text of the tables that not every run has.
_WORDS = (
    "name", "unit", "scale", "class", "traded_with", "disagreement", "parameter", "method", "output", "origin", "status", "message",
    "site", "plant_type", "at_bound", "determined", "checks_passed", "advice", "flux", "role", "run", "kind", "group",
)  # fmt: skip


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
        return read_json(self.folder / "provenance.json")

    @cached_property
    def forcing(self) -> pd.DataFrame | None:
        """Content of forcing.csv, with `date` as dates; None where there is none."""
        return self._table("forcing", parse_dates=["date"])

    @cached_property
    def posterior(self) -> pd.DataFrame | None:
        """Content of posterior.csv; None without an uncertainty analysis."""
        return self._table("posterior")

    @cached_property
    def posterior_samples(self) -> pd.DataFrame | None:
        """Content of posterior_samples.csv; None without an uncertainty analysis."""
        return self._table("posterior_samples")

    @cached_property
    def posterior_correlation(self) -> pd.DataFrame | None:
        """Content of posterior_correlation.csv, rows and columns by name; None without an uncertainty analysis."""
        table = self._table("posterior_correlation")
        return None if table is None else table.set_index("name")

    @cached_property
    def bands(self) -> pd.DataFrame | None:
        """Content of bands.csv, with `date` as dates; None without an uncertainty analysis."""
        return self._table("bands", parse_dates=["date"])

    @cached_property
    def uncertainty(self) -> dict[str, Any] | None:
        """Content of uncertainty.json; None without an uncertainty analysis."""
        path = self.folder / "uncertainty.json"
        return read_json(path) if path.is_file() else None

    @cached_property
    def profiles(self) -> pd.DataFrame | None:
        """Content of profiles.csv; None where no profile was taken."""
        return self._table("profiles")

    @cached_property
    def starts(self) -> pd.DataFrame | None:
        """Content of starts.csv; None where there was one start."""
        return self._table("starts")

    @cached_property
    def sensitivity(self) -> pd.DataFrame | None:
        """Content of sensitivity.csv; None where no analysis was made."""
        return self._table("sensitivity")

    def _table(self, name: str, **options: Any) -> pd.DataFrame | None:
        path = self.folder / f"{name}.csv"
        return read_table(path, **options) if path.is_file() else None

    @property
    def warmup_days(self) -> int:
        """Days at the start of the record that no sum counts."""
        return len(self.fluxes) - sum(int(year["days"]) for year in self.metrics["annual_sums"].values())

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
    status = read_json(folder / "status.json")
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
    return read_json(folder / "metrics.json")


def load_parameters(folder: Path) -> pd.DataFrame:
    """Return the content of parameters.csv.

    Raises:
        ResultsError: If the file is missing or damaged.
    """
    # Cells as they are, so that a parameter named `NA` keeps its name; no number of this table is ever missing.
    return _read_csv(folder / "parameters.csv", keep_default_na=False, dtype=dict.fromkeys(_TEXT_COLUMNS, str))


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Return a table in which only an empty cell is missing, for a parameter may be named `NA` and a site `007`.

    Args:
        path: The CSV file.
        **options: Further arguments of :func:`pandas.read_csv`.

    Raises:
        ResultsError: If the file is missing or damaged.
    """
    frame = _read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_WORDS, str), **options)
    return frame.fillna({word: "" for word in _WORDS if word in frame})


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file.

    Raises:
        ResultsError: If it is missing, damaged, or no object.
    """
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
