"""The scaler of a run: mean and spread of attributes and series, as the package has computed them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import SurrogateError
from ..base import Variable
from .config import read_yaml


class RunScaler:
    """The `train_data_scaler.yml` of a run.

    Args:
        path: The file.

    Raises:
        SurrogateError: If the file is missing, is a pickle as in earlier versions, or lacks a part.
    """

    def __init__(self, path: Path) -> None:
        _check_is_there(path)
        self.path, self._values = path, read_yaml(path)

    def attributes(self, names: Sequence[str]) -> tuple[Variable, ...]:
        """Return static attributes with their scaling."""
        return self._variables(names, self._table("attribute_means"), self._table("attribute_stds"))

    def series(self, names: Sequence[str]) -> tuple[Variable, ...]:
        """Return dynamic inputs or targets with their scaling."""
        return self._variables(names, self._features("xarray_feature_center"), self._features("xarray_feature_scale"))

    def _variables(self, names: Sequence[str], means: dict[str, Any], stds: dict[str, Any]) -> tuple[Variable, ...]:
        return tuple(Variable(name, mean=self._number(means, name), std=self._number(stds, name)) for name in names)

    def _table(self, key: str) -> dict[str, Any]:
        table = self._values.get(key)
        if not isinstance(table, dict):
            raise SurrogateError(f"{self.path}: `{key}` is missing. Expected the scaler of neuralhydrology 1.10 or later.")
        return table

    def _features(self, key: str) -> dict[str, Any]:
        features = self._table(key).get("data_vars")
        if not isinstance(features, dict):
            raise SurrogateError(
                f"{self.path}: `{key}.data_vars` is missing. Expected the scaler of neuralhydrology 1.10 or later."
            )
        return {name: feature.get("data") if isinstance(feature, dict) else None for name, feature in features.items()}

    def _number(self, table: dict[str, Any], name: str) -> float:
        value = table.get(name)
        try:
            return float(str(value))
        except ValueError:
            raise SurrogateError(
                f"{self.path}: scaling of {name!r} is {value!r:.60}, expected a number. Copy the run again."
            ) from None


def _check_is_there(path: Path) -> None:
    pickled = path.with_suffix(".p")
    if path.is_file():
        return
    if pickled.is_file():
        raise SurrogateError(
            f"{pickled}: is a pickle, which can execute code when opened, and is never read. If you trust it, write "
            f"{path.name} with neuralhydrology itself: `{{k: v.to_dict() for k, v in load_scaler(run_dir).items()}}` as YAML."
        )
    raise SurrogateError(f"{path}: scaler not found. Copy the run's folder `train_data` as well.")
