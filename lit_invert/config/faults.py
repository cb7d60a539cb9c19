"""What the parser says when something is wrong, said in one line that names place, key, what was expected, and what was found."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError, LitInvertError, suggest
from ..trust import Trust
from .files import ConfigFile
from .keys import in_words, suggest_key


@dataclass
class Sources:
    """Where the values of one parse came from, and what is known of their keys."""

    argv: Sequence[str]
    trust: Trust
    known: Iterable[str]
    """Every key."""
    classes: Mapping[str, Sequence[str]]
    """Known class names of each key that takes classes."""
    files: list[ConfigFile] = field(default_factory=list)
    """Config files in the order in which they were read; the last one wins."""

    def place(self, key: str) -> str:
        """Say where a key was given, with `: ` at the end; nothing if it was not."""
        if any(re.match(rf"--{re.escape(key)}(\W|$)", token) for token in self.argv):
            return "command line: "
        for file in reversed(self.files):
            if key in file.lines or key.partition(".")[0] in file.lines:
                return f"{file.place(key)}: "
        return ""

    def last(self) -> str:
        """Say where a missing key should have been."""
        return f"{self.files[-1].path}: " if self.files else ""


def explain(message: str, sources: Sources) -> LitInvertError:
    """Turn the parser's message, often many lines, into our error.

    Args:
        message: What jsonargparse says.
        sources: Where the values came from.

    Returns:
        The error to raise.
    """
    keys = re.findall(r'Parser key "([^"]+)"', message)
    key = keys[0] if keys else ""
    where = f"{sources.place(key)}`{'.'.join(dict.fromkeys(keys))}`" if key else sources.last().rstrip(": ")
    for explanation in (_import, _option, _required, _class_name, _ambiguous, _no_subclass, _abstract, _absent, _command_line):
        found = explanation(message, where, key, sources)
        if found is not None:
            return found
    return ConfigError(_value(message, where))


def _import(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    denied = re.search(r"Importing '([^']+)' is not allowed", message)
    if denied is None:
        return None
    outer = re.findall(r"Problem with given class_path '([^']+)'", message)
    if outer and outer[0] != denied[1] and key not in sources.classes:
        return ConfigError(f"{where}: expected a block of keys, found {denied[1]!r}.")
    try:
        sources.trust.check_import(denied[1], where)
    except LitInvertError as error:
        return error
    return ConfigError(f"{where}: {denied[1]!r} is defined outside the allowed packages. Name a class of an allowed package.")


def _option(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    unknown = re.search(r"Option '([^']+)' is not accepted", message) or re.search(r"does not accept option '([^']+)'", message)
    if unknown is None:
        return None
    classes = re.findall(r"Problem with given class_path '([^']+)'", message)
    if not classes:
        return ConfigError(f"{where}: unknown key `{unknown[1]}`.{suggest_key(unknown[1], sources.known)}")
    if key not in sources.classes:
        return ConfigError(f"{where} has no key `{unknown[1]}`.{suggest(unknown[1], _arguments(classes[-1]))}")
    name = classes[-1].rpartition(".")[2]
    return ConfigError(f"{where}: {name} has no argument {unknown[1]!r}.{suggest(unknown[1], _arguments(classes[-1]))}")


def _arguments(class_path: str) -> list[str]:
    """Return the arguments of a class that the parser has imported."""
    module, _, name = class_path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return [] if found is None else [p for p in inspect.signature(found).parameters if p not in ("args", "kwargs")]


def _required(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    missing = re.search(r"the following arguments are required: (.+)", message)
    if missing is None:
        return None
    names = ", ".join(f"`{name.strip()}`" for name in missing[1].split(","))
    classes = re.findall(r"Problem with given class_path '([^']+)'", message)
    if classes and key not in sources.classes:
        return ConfigError(f"{where} needs {names}.")
    if classes:
        return ConfigError(f"{where}: {classes[-1].rpartition('.')[2]} needs {names} among its `init_args`.")
    hint = "" if sources.files else " Give a config file: --config FILE."
    return ConfigError(f"{sources.last()}{names} {'are' if ',' in names else 'is'} missing.{hint}")


def _class_name(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    name = re.search(r"Expected a dot import path string: (.+)", message)
    if name is None:
        return None
    return ConfigError(f"{where}: {name[1]!r} is not a known class.{suggest(name[1], sources.classes.get(key, []))}")


def _ambiguous(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    several = re.search(r"Multiple subclasses with name (\S+)\. .*ambiguity: (.+)\.", message)
    return None if several is None else ConfigError(f"{where}: {several[1]!r} could be {several[2]}. Give the full class path.")


def _no_subclass(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    wrong = re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", message)
    return None if wrong is None else ConfigError(f"{where}: expected a {wrong[2]}, found {wrong[1]!r}, which is none.")


def _abstract(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    base = re.search(r"but (\S+) is abstract", message)
    if base is None:
        return None
    return ConfigError(
        f"{where}: expected a concrete {base[1].rpartition('.')[2]} by `class_path` and `init_args`, found neither. "
        "Check these two words and their indentation."
    )


def _absent(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    path = re.search(r"Problem with given class_path '([^']+)':\s+(.*(?:has no attribute|No module named).*)", message)
    return None if path is None else ConfigError(f"{where}: {path[1]!r} cannot be imported ({path[2]}). Check its spelling.")


def _command_line(message: str, where: str, key: str, sources: Sources) -> LitInvertError | None:
    unknown = re.match(r"unrecognized arguments: (.+)", message)
    if unknown is not None:
        token = unknown[1].split()[0]
        if not token.startswith("--"):
            return ConfigError(f"command line: did not expect {token!r}. Options start with `--`, such as `--config FILE`.")
        name = token.lstrip("-").partition("=")[0]
        return ConfigError(f"command line: unknown option `--{name}`.{suggest_key(name, sources.known).replace('`', '`--', 1)}")
    option = re.match(r"argument (\S+): (.+)", message)
    return None if option is None else ConfigError(f"command line: `{option[1].rpartition('/')[2]}`: {option[2]}.")


def _value(message: str, where: str) -> str:
    """Say which types would have been right, and what was found."""
    text = re.search(r"Unable to load config ['\"](.*)['\"]", message)
    if text is not None:
        return f"{where}: expected a block of keys, found {text[1]!r:.80}."
    innermost = re.split(r'Parser key "', message)[-1]
    kinds = re.findall(r"(?:Expected an?|a valid subclass of) (.+?)(?:\. Got value: .*)?$", innermost, re.MULTILINE)
    value = re.search(r"(?:Got value|Given value): (.*)", innermost)
    if not kinds or value is None:
        return f"{where}: {' '.join(message.split())}"
    expected = " or ".join(dict.fromkeys(in_words(kind) for kind in kinds))
    return f"{where}: expected {expected}, found {value[1]!r:.80}."
