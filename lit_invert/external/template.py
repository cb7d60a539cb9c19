"""The user's own parameter file with holes for our numbers.

A template is any text: a Fortran namelist, a CSV table, lines of `key = value`. `{pmax}` stands for the value of the parameter,
`{pmax:.4f}` for the same in a format of Python; `{{` and `}}` are braces. A hole holds a name and nothing else, so that a template
can reach no more than the numbers that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, suggest

#: Doubled braces, a hole with its name and format, or a brace that is neither.
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}\n]*)\}|[{}]")
_HOLE = re.compile(r"\s*([^\W\d]\w*)\s*(?::([^{}]*))?")
#: Formats of text and of numbers, with widths that no memory minds.
_FORMAT = re.compile(r"(?:.?[<>=^])?[+\- ]?#?0?\d{0,3},?(?:\.\d{1,2})?[eEfFgGdsn%]?")


@dataclass(frozen=True)
class Template:
    """Text with holes.

    Args:
        text: The text.
        where: File or key that it comes from, for errors.

    Example:
        >>> Template("&veg pmax = {pmax:.2f} /{{}}", "veg.nml").fill({"pmax": 12.345})
        '&veg pmax = 12.35 /{}'
    """

    text: str
    where: str

    @classmethod
    def load(cls, path: Path) -> Template:
        """Read a template.

        Raises:
            ConfigError: If the file cannot be read as text.
        """
        try:
            return cls(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: template is not UTF-8 text (byte {error.start}).") from error
        except OSError as error:
            raise ConfigError(f"{path}: template cannot be read ({error.strerror}). Check its path.") from error

    def check(self, numbers: Iterable[str], texts: Iterable[str]) -> None:
        """Check every hole before its value is known.

        Args:
            numbers: Names of numbers.
            texts: Names of texts.

        Raises:
            ConfigError: As :meth:`fill`; names the line.
        """
        self.fill({**dict.fromkeys(numbers, 1.0), **dict.fromkeys(texts, "")})

    def fill(self, values: Mapping[str, float | str]) -> str:
        """Return the text with every hole filled; numbers without a format have all their digits.

        Args:
            values: Numbers and texts by name.

        Raises:
            ConfigError: If a hole is malformed, asks for an unknown name, or its format does not fit the value.
        """
        return _TOKEN.sub(lambda match: self._fill(match, values), self.text)

    def _fill(self, match: re.Match[str], values: Mapping[str, float | str]) -> str:
        hole = self._read(match, values)
        if hole is None:
            return match[0][0]
        name, form = hole
        value = values[name]
        if not form:
            return value if isinstance(value, str) else repr(float(value))
        try:
            return format(round(value) if form.endswith("d") and not isinstance(value, str) else value, form)
        except (ValueError, OverflowError) as error:  # the latter of an infinite value as an integer
            raise ConfigError(f"{self._place(match)}: format {form!r} does not fit the value of {name!r} ({error}).") from error

    def _read(self, match: re.Match[str], known: Iterable[str]) -> tuple[str, str] | None:
        """Return name and format of a hole, None for doubled braces."""
        if match[0] in ("{{", "}}"):
            return None
        hole = _HOLE.fullmatch(match[1] or "")
        if hole is None or _FORMAT.fullmatch(hole[2] or "") is None:
            raise ConfigError(
                f"{self._place(match)}: found {match[0]!r}, expected a name and perhaps a format, as {{pmax}} or {{pmax:.4f}}. "
                "Write braces that are meant as such twice."
            )
        if hole[1] not in known:
            raise ConfigError(f"{self._place(match)}: {hole[1]!r} is not known.{suggest(hole[1], known)}")
        return hole[1], hole[2] or ""

    def _place(self, match: re.Match[str]) -> str:
        return f"{self.where}:{self.text.count(chr(10), 0, match.start()) + 1}"


def template_values(parameters: Mapping[str, float], site: str, latitude: float) -> dict[str, float | str]:
    """Return what the holes of a parameter file may ask for: every parameter in the table's unit, `site`, and `latitude`."""
    return {"site": site, "latitude": latitude, **parameters}
