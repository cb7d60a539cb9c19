"""Open the folder of a run over many sites again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ResultsError
from .reading import read_json, read_table

_FAILED = "failed"


@dataclass(frozen=True)
class SitesRun:
    """A run over many sites, as its tables tell it; they are read when asked for."""

    folder: Path

    @cached_property
    def sites(self) -> pd.DataFrame:
        """Content of sites.csv."""
        return self._table("sites")

    @property
    def fitted(self) -> pd.DataFrame:
        """Rows of the sites that have a result."""
        return self.sites[self.sites["status"] != _FAILED]

    @property
    def failed(self) -> pd.DataFrame:
        """Rows of the sites that have none."""
        return self.sites[self.sites["status"] == _FAILED]

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """Content of parameters.csv, a row a site and parameter."""
        return self._table("parameters")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Content of metrics.csv, a row a site, flux, role and run."""
        return self._table("metrics")

    @cached_property
    def skill(self) -> pd.DataFrame | None:
        """Content of skill.csv; None where nothing was compared."""
        return self._optional("skill")

    @cached_property
    def shared(self) -> pd.DataFrame | None:
        """Content of shared.csv; None where sites share nothing."""
        return self._optional("shared")

    @cached_property
    def unseen(self) -> pd.DataFrame | None:
        """Content of unseen.csv; None where no site was left out."""
        return self._optional("unseen")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Content of provenance.json."""
        return read_json(self.folder / "provenance.json")

    def _table(self, name: str) -> pd.DataFrame:
        return read_table(self.folder / f"{name}.csv")

    def _optional(self, name: str) -> pd.DataFrame | None:
        return self._table(name) if (self.folder / f"{name}.csv").is_file() else None


def is_sites_run(folder: Path) -> bool:
    """Say whether a folder is that of a run over many sites."""
    return (folder / "sites.csv").is_file() and (folder / "status.json").is_file()


def read_sites_run(path: str | Path) -> SitesRun:
    """Open a run over many sites.

    Args:
        path: Its folder, `.../version_N`.

    Raises:
        ResultsError: If it is none, or has no joined tables yet.
    """
    folder = Path(path)
    if not is_sites_run(folder):
        raise ResultsError(f"{folder}: is not the folder of a finished run over many sites, it has no `sites.csv`.")
    return SitesRun(folder)
