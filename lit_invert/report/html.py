"""The parts of an HTML page that needs neither network nor script, follows light and dark, and prints.

What is text is escaped here; content that callers join is HTML already.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any


def section(title: str, *content: str) -> str:
    """Return a section: its title as text, its content as HTML."""
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


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


def number(value: float | None) -> str:
    """Return a number with three digits, empty where there is none.

    Example:
        >>> number(0.12345), number(12345.6), number(None)
        ('0.123', '12346', '')
    """
    return "" if value is None or math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page of sections."""
    style = files("lit_invert").joinpath("assets/report/page.css").read_text(encoding="utf-8")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )
