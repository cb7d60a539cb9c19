"""Tables for people, by rich."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text


def new_table(title: str, *columns: str) -> Table:
    """Return an empty table with columns of text."""
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(Text(column))
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row as it is: square brackets are units here, not styles."""
    table.add_row(*map(Text, cells))


def number(value: float | None, form: str = ".3f") -> str:
    """Return a number as text, `-` where there is none.

    Example:
        >>> number(-0.5, "+.1f"), number(None), number(float("nan"))
        ('-0.5', '-', '-')
    """
    return "-" if value is None or math.isnan(value) else format(value, form)
