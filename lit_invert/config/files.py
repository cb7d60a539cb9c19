"""Config files before the parser sees them: strict YAML, known keys, and paths that are meant from the file's own folder.

The parser is lenient where a user would rather be told: it lets a key stand twice (the last one wins), takes a number for a block
of keys, and null for anything. What is checked here knows the line of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from ..errors import ConfigError
from .keys import suggest_key

#: Keys that hold a path: relative to the folder of the file that states it, or to the working folder on the command line.
PATHS = (
    "surrogate.spec",
    "parameters",
    "data.path",
    "data.drivers_path",
    "data.sites",
    "data.priors",
    "inversion.start_points",
    "logs",
    "ckpt_path",
    "output",
    "start_from",
    "ensemble.parameters",
    "ensemble.cache",
    "resimulate.template",
)
#: Lists of words, of which those that start with ./ or ../ are paths.
COMMANDS = ("resimulate.command",)
#: Lists of blocks that hold a path, and its key in each block.
PATH_LISTS = {"ensemble.sites": "path"}
#: Values of a path's key that are no paths.
_WORDS = ("last", "best", "prior", "lhs")


@dataclass(frozen=True)
class ConfigFile:
    """One config file as it stands."""

    path: Path
    values: dict[str, Any]
    lines: Mapping[str, int]
    """Line of each key, nested keys joined by dots."""

    def place(self, key: str) -> str:
        """Say where a key stands, or the block that should hold it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.path}:{self.lines[key]}" if key else str(self.path)


def read_config_file(path: Path) -> ConfigFile:
    """Read one YAML file strictly.

    Args:
        path: The file.

    Raises:
        ConfigError: If it cannot be read, is not YAML, holds no keys, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = get_loader("yaml")(text)
    except OSError as error:
        raise ConfigError(f"{path}: config file cannot be read ({error.strerror}). Check `--config`.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: config file is not UTF-8 text (byte {error.start}). Expected YAML.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_describe(error)}") from error
    if not isinstance(node, yaml.MappingNode) or not node.value:
        found = {yaml.SequenceNode: "a list", yaml.ScalarNode: "text"}.get(type(node), "none")
        raise ConfigError(f"{path}: expected keys such as `data:` in YAML, found {found}.")
    lines = dict(_lines(node, path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: every key is empty. Give them values.")
    return ConfigFile(path, values, lines)


def _describe(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"{place}: is not valid YAML ({problem}). Check indentation (spaces, no tabs), colons and brackets."


def _lines(node: yaml.MappingNode, path: Path, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield every key of nested mappings with its line.

    Raises:
        ConfigError: If a mapping has a key twice, or a key is not text.
    """
    seen: dict[str, int] = {}
    for name, value in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode):
            raise ConfigError(f"{path}:{line}: a key must be plain text.")
        key = f"{prefix}{name.value}"
        if name.value in seen and name.value != "<<":
            raise ConfigError(f"{path}:{line}: `{key}` stands here and in line {seen[name.value]}. Keep one of them.")
        seen[name.value] = line
        yield key, line
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, path, f"{key}.")


def check_keys(file: ConfigFile, defaults: Mapping[str, Any]) -> None:
    """Check that a file has known keys alone, blocks where blocks belong, and null only where nothing is a choice.

    Args:
        file: The file.
        defaults: Every known key, nested ones joined by dots, with its default.

    Raises:
        ConfigError: If not; names file, line, key and the nearest right name.
    """
    blocks = {key.rsplit(".", n)[0] for key in defaults for n in range(1, key.count(".") + 1)}
    _check_block(file, file.values, "", defaults, blocks)


def _check_block(file: ConfigFile, values: Mapping[Any, Any], prefix: str, defaults: Mapping[str, Any], blocks: set[str]) -> None:
    for name, value in values.items():
        key = f"{prefix}{name}"
        place, known = file.place(key), key.removesuffix("+")
        if known in blocks:
            if not isinstance(value, dict):
                raise ConfigError(f"{place}: `{key}`: expected a block of keys, found {_show(value)}.")
            _check_block(file, value, f"{key}.", defaults, blocks)
        elif known not in defaults:
            plugin = (
                " If it is a plugin's block, install or enable that plugin: `lit-invert plugins`." if _is_top(key, value) else ""
            )
            raise ConfigError(f"{place}: unknown key `{key}`.{suggest_key(key, [*defaults, *blocks])}{plugin}")
        elif value is None and defaults[known] is not None:
            default = _show(defaults[known])
            raise ConfigError(f"{place}: `{key}` is empty (null). Give it a value, or leave it out for the default, {default}.")


def _is_top(key: str, value: Any) -> bool:
    return isinstance(value, dict) and "." not in key


def _show(value: Any) -> str:
    return "null" if value is None else f"{value!r:.60}"


def resolve_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values with every path made absolute, seen from a folder.

    Args:
        values: Nested values of a config.
        folder: What relative paths are relative to.
    """

    def absolute(path: str) -> str:
        return str((folder / Path(path).expanduser()).absolute())

    return _map_paths(_map_commands(values, ("./", "../"), absolute), absolute)


def relate_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values with every path relative to a folder, for a file that will lie there."""

    def relative(path: str) -> str:
        return os.path.relpath(path, folder)

    return _map_paths(_map_commands(values, ("/",), lambda path: os.path.join(".", relative(path))), relative)


def _map_paths(values: dict[str, Any], change: Any) -> dict[str, Any]:
    for key in PATHS:
        values = _replace(values, key.split("."), lambda path: path if path in _WORDS else change(path))
    for key, name in PATH_LISTS.items():
        values = _replace(values, key.split("."), lambda items, name=name: _each(items, name, change))
    return values


def _map_commands(values: dict[str, Any], starts: tuple[str, ...], change: Any) -> dict[str, Any]:
    """Change the words of commands that start like a path."""

    def change_words(words: Any) -> Any:
        return [change(w) if str(w).startswith(starts) else w for w in words] if isinstance(words, list) else words

    for key in COMMANDS:
        values = _replace(values, key.split("."), change_words)
    return values


def _replace(values: Any, parts: list[str], change: Any) -> Any:
    """Return nested values with the text or list at one key changed, if it is there."""
    if not isinstance(values, dict) or parts[0] not in values:
        return values
    value = values[parts[0]]
    if len(parts) > 1:
        return {**values, parts[0]: _replace(value, parts[1:], change)}
    return {**values, parts[0]: change(value)} if isinstance(value, (str, list)) else values


def _each(items: Iterable[Any], name: str, change: Any) -> list[Any]:
    return [_replace(item, [name], change) for item in items]
