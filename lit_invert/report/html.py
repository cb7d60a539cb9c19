"""The parts of an HTML page that needs neither network nor script, follows light and dark, and prints.

What is text is escaped here; content that callers join is HTML already.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any


def section(title: str, *content: str) -> str:
    """Return a section: its title as text, its content as HTML; nothing where it has no content."""
    inside = "".join(content)
    return f"<section id='{anchor(title)}'><h2>{escape(title)}</h2>{inside}</section>" if inside else ""


def anchor(title: str) -> str:
    """Return the name by which a link finds a section.

    Example:
        >>> anchor("Before you believe it & <more>")
        'before-you-believe-it-more'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def contents(sections: Iterable[str]) -> str:
    """Return links to the sections of a page."""
    titles = [found for part in sections for found in re.findall(r"^<section id='([^']*)'><h2>(.*?)</h2>", part)]
    return f"<nav>{''.join(f'<a href=#{name}>{title}</a>' for name, title in titles)}</nav>"


def folded(title: str, content: str) -> str:
    """Return content that is shown on a click; nothing where there is none."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def note(text: str) -> str:
    """Return a remark in small print."""
    return f"<p class='note'>{escape(text)}</p>"


def sentences(texts: Iterable[str]) -> str:
    """Return sentences as a list; nothing where there are none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def picture(png: bytes, caption: str) -> str:
    """Return a PNG with its caption, inside the page."""
    data, text = base64.b64encode(png).decode("ascii"), escape(caption)
    return f"<figure><img src='data:image/png;base64,{data}' alt='{text}'><figcaption>{text}</figcaption></figure>"


def table(labels: Sequence[str], rows: Sequence[Sequence[Any]], text: Sequence[int]) -> str:
    """Return a table whose columns are numbers, set to the right, but for those in `text`."""

    def cells(tag: str, row: Sequence[Any]) -> str:
        return "".join(f"<{tag}{' class=text' if i in text else ''}>{escape(str(c))}</{tag}>" for i, c in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{cells('th', labels)}</tr></thead><tbody>{body}</tbody></table></div>"


def records(rows: Sequence[Mapping[Any, Any]]) -> str:
    """Return a table of records that share their keys, its labels; numbers have three digits. Nothing without a record."""
    if not rows:
        return ""
    labels = list(dict.fromkeys(str(key) for row in rows for key in row))
    words = [i for i, label in enumerate(labels) if any(isinstance(row.get(label), (str, bool)) for row in rows)]
    cells = [[cell(row.get(label)) for label in labels] for row in rows]
    return table([label.replace("_", " ") for label in labels], cells, text=words)


def pairs(values: Mapping[str, Any]) -> str:
    """Return names and values as a table; names of mappings inside stand before theirs."""
    return table(["what", "value"], [[name.replace("_", " "), cell(value)] for name, value in flatten(values)], text=(0, 1))


def described(values: Mapping[str, Any]) -> str:
    """Return names and values as a table, and each list or mapping of records as a table of its own, named by its key."""
    tables = {key: as_rows(value) for key, value in values.items()}
    plain = {key: value for key, value in values.items() if not tables[key]}
    named = (f"<h4>{escape(key.replace('_', ' '))}</h4>{records(rows)}" for key, rows in tables.items() if rows)
    return (pairs(plain) if plain else "") + "".join(named)


def as_rows(value: Any) -> list[Mapping[str, Any]]:
    """Return a list of records as it is, a mapping of them with their names; nothing for what is neither.

    Example:
        >>> as_rows({"a": {"x": 1}}), as_rows([{"x": 1}]), as_rows({"a": 1})
        ([{'name': 'a', 'x': 1}], [{'x': 1}], [])
    """
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    if not items or not all(isinstance(item, Mapping) for item in items):
        return []
    return [{"name": name, **item} for name, item in value.items()] if isinstance(value, Mapping) else list(value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings, by their names joined.

    Example:
        >>> list(flatten({"a": {"b": 1}, "c": 2}))
        [('a b', 1), ('c', 2)]
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key} ")
        else:
            yield prefix + key, value


def cell(value: Any) -> str:
    """Return any value as the text of a cell.

    Example:
        >>> cell(0.12345), cell(True), cell(None), cell(["a", 2.0]), cell(12)
        ('0.123', 'yes', '', 'a, 2', '12')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(item)}" for key, item in value.items())
    return "" if value is None else str(value)


def number(value: float | None) -> str:
    """Return a number with three digits, empty where there is none.

    Example:
        >>> number(0.12345), number(12345.6), number(None)
        ('0.123', '12346', '')
    """
    return "" if value is None or math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def page(title: str, body: Iterable[str], kind: str = "report") -> str:
    """Return a whole page of sections; its kind is said inside, so that a page of another kind is not written over."""
    style = files("lit_invert").joinpath("assets/report/page.css").read_text(encoding="utf-8")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"{generator(kind)}<title>{escape(title)}</title><style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def generator(kind: str) -> str:
    """Return the line of a page that says what kind it is."""
    return f"<meta name='generator' content='lit-invert {escape(kind)}'>"
