"""What a page is made of besides prose: tables, and figures that are a chart with a table twin."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table; numbers are set flush right, code in a fixed-width face."""

    name: str
    numeric: bool = False
    code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a caption for screen readers; ``rows`` hold one text a column."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart under a title that says what to see, with its numbers as a table."""

    title: str
    chart: Markup
    table: Table
    note: str = ""


def names(*columns: str) -> tuple[Column, ...]:
    """Columns from their names: a leading ``#`` marks numbers, a leading backtick code."""
    return tuple(
        Column(name=name.lstrip("#`"), numeric=name.startswith("#"), code=name.startswith("`"))
        for name in columns
    )
