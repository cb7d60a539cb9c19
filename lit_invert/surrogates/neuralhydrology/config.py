"""The config of a run, in which every scalar is text.

YAML 1.1 would take `no` for false and 1e-05 for text, and obey tags; the package writes YAML 1.2. So nothing is taken for anything,
until a key is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ...errors import SurrogateError

_MOST_DIGITS = 6
_UNSET: tuple[Any, ...] = (None, "", "~", "null", "none", "false", "0", [], {})


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping whose scalars stay text, and whose tags mean nothing.

    Raises:
        SurrogateError: If the file cannot be read, refers to itself by aliases, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # A few lines of aliases of aliases are gigabytes once somebody prints them.
        has_aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.BaseLoader))
        values = None if has_aliases else yaml.load(text, Loader=yaml.BaseLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SurrogateError(
            f"{path}: cannot be read as YAML ({' '.join(str(error).split()):.160}). Copy the run again."
        ) from error
    if has_aliases:
        raise SurrogateError(f"{path}: has aliases (`*name`), which a run never needs. Copy the run again.")
    if not isinstance(values, dict):
        raise SurrogateError(f"{path}: expected keys and values, found {type(values).__name__}. Copy the run again.")
    return values


class RunConfig:
    """The `config.yml` of a run.

    Args:
        path: The file.

    Raises:
        SurrogateError: If the file cannot be read, or holds no mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._values = path, read_yaml(path)

    def get(self, key: str) -> Any:
        """Return a value, or None where it is left out, empty or false."""
        value = self._values.get(key)
        return None if (value.lower() if isinstance(value, str) else value) in _UNSET else value

    def refuse(self, keys: Sequence[str]) -> None:
        """Raise a SurrogateError if one of these keys is set."""
        for key in keys:
            if self.get(key) is not None:
                raise SurrogateError(
                    f"{self.path}: `{key}` is {self.get(key)!r:.60}, which is not supported. "
                    "Train a run with static_attributes, dynamic_inputs and target_variables alone."
                )

    def names(self, key: str) -> list[str]:
        """Return a list of names; raise a SurrogateError if it is anything else."""
        value = self.get(key)
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise SurrogateError(f"{self.path}: `{key}` is {value!r:.60}, expected a list of names.")
        return names

    def whole(self, key: str) -> int:
        """Return a whole number from 1 to 999 999; raise a SurrogateError if it is anything else."""
        number = parse_whole(self.get(key))
        if number is None or number < 1:
            raise SurrogateError(
                f"{self.path}: `{key}` is {self.get(key)!r:.60}, expected a whole number, 1 or more, below a million."
            )
        return number


def parse_whole(value: object) -> int | None:
    """Return the whole number below a million that a text is; None for anything else.

    Example:
        >>> parse_whole("365"), parse_whole("1e3"), parse_whole("9" * 5000)
        (365, None, None)
    """
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= _MOST_DIGITS else None
