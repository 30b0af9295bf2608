"""Rows of a dataset's sources, one after the other: filtered, limited and checked.

Nothing is guessed: readers that guess types make timestamps of a column of dates, and null of the
text NA. A row is what its file says, or a fault with its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from runner.data.reading.hub_datasets import read_hub_rows
from runner.data.reading.resolved_source import ResolvedSource
from runner.data.reading.row_column import Column, is_unicode, text_fault, type_name
from runner.data.reading.row_faults import RowFaults
from runner.data.reading.row_files import PlacedRows, Row, read_rows_of_file
from runner.data.reading.row_filter import RowFilter
from runner.data.reading.row_template import RowError
from runner.data.reading.sources import SourceRecord
from runner.errors import DataError

__all__ = ["Column", "ReadRow", "first_row", "read_rows", "text_fault", "type_name"]


class ReadRow(NamedTuple):
    """The columns of one row; ``source`` is its place in ``dataset.sources``.

    ``place`` is the file and line that it begins in, or the source and the number of its row.
    """

    values: dict[str, Any]
    place: str
    source: int


def read_rows(source: SourceRecord, columns: Sequence[Column]) -> Iterator[ReadRow]:
    """Read ``columns`` of every row that the filters pass, in order, and check every value.

    After a fault no more rows are given, but all are read.

    Raises:
        DataError: after the last row: malformed lines, rows without a column, values of the wrong
            type, filters that cannot be decided, each with the first few places; or a source, or
            what the filters leave of it, has no rows.
        MachineError: a file is damaged or cannot be read.
    """
    faults = RowFaults()
    checked = _CheckedRows(columns, faults)
    dataset_filter = _filter("dataset.filter", source.filter)
    number = 0
    for index, part in enumerate(source.sources):
        needed = _needed(columns, dataset_filter, part)
        with closing(_Selection(part, index, dataset_filter, needed, faults)) as selection:
            for place, row in selection.rows:
                values = checked.values(row, number, place)
                number += 1
                if values is not None:
                    yield ReadRow(values, place, index)
            selection.refuse_none()
    checked.refuse_absent()
    faults.raise_if_any(f"dataset.source: {source.name} cannot be used as the recipe says:")
    if not number:
        raise DataError(f"dataset.filter: it passes no row of {source.name}")


def first_row(source: SourceRecord) -> Row:
    """The first row of the sources, with all its columns and before any filter.

    Raises:
        DataError: there is none, or it is malformed.
    """
    faults = RowFaults()
    for part in source.sources:
        with closing(_placed_rows(part, faults, None)) as rows:
            for _, row in islice(rows, 1):
                return row
    faults.raise_if_any(f"dataset.source: {source.name} cannot be read:")
    raise DataError(f"dataset.source: {source.name} has no rows")


def _filter(key: str, expression: str | None) -> RowFilter | None:
    return None if expression is None else RowFilter(key, expression)


def _needed(
    columns: Sequence[Column], dataset_filter: RowFilter | None, part: ResolvedSource
) -> frozenset[str]:
    """The columns that are looked at, which is all that a Parquet file need give."""
    filters = [dataset_filter, _filter("filter", part.filter)]
    named = {name for row_filter in filters if row_filter for name in row_filter.names}
    return frozenset({*named, *(column.name for column in columns)})


def _placed_rows(
    part: ResolvedSource, faults: RowFaults, columns: frozenset[str] | None
) -> PlacedRows:
    if part.hub is not None:
        yield from read_hub_rows(part, columns)
    for file in part.files:
        yield from read_rows_of_file(Path(file.path), file.name, faults, columns)


class _Selection:
    """The rows of one source that its filter and the dataset's pass, up to its limit."""

    def __init__(
        self,
        part: ResolvedSource,
        index: int,
        dataset_filter: RowFilter | None,
        needed: frozenset[str],
        faults: RowFaults,
    ) -> None:
        self._part, self._faults = part, faults
        self._key = f"dataset.source[{index}]"
        own = _filter(f"{self._key}.filter", part.filter)
        self._filters = tuple(f for f in (own, dataset_filter) if f is not None)
        self._own = own
        self._read = self._passed_own = 0
        self._all = _placed_rows(part, faults, needed)
        passed = self._passed() if self._filters else self._counted()
        self.rows = islice(passed, part.limit)

    def close(self) -> None:
        """Close the files that are open."""
        self._all.close()

    def _counted(self) -> PlacedRows:
        for placed in self._all:
            self._read = 1
            yield placed

    def _passed(self) -> PlacedRows:
        for place, row in self._all:
            self._read += 1
            if self._passes(place, row):
                yield place, row

    def _passes(self, place: str, row: Row) -> bool:
        try:
            for row_filter in self._filters:
                if not row_filter.passes(row):
                    return False
                self._passed_own += row_filter is self._own
        except RowError as error:
            self._faults.add(str(error), place)
            return False
        return True

    def refuse_none(self) -> None:
        """Refuse a source that has no rows, or none that its own filter passes."""
        if self._faults.counts or not (self._part.files or self._part.hub):
            return
        if not self._read:
            raise DataError(f"dataset.source: {self._part.described} has no rows")
        if self._own is not None and not self._passed_own:
            raise DataError(
                f"{self._own.key}: it passes none of the {self._read:,} rows of "
                f"{self._part.described}"
            )


class _CheckedRows:
    """Takes the columns out of rows; what is wrong with them goes into ``faults``."""

    def __init__(self, columns: Sequence[Column], faults: RowFaults) -> None:
        self._columns, self._faults = columns, faults
        self._names = tuple(column.name for column in columns)
        self._texts = tuple(c.name for c in columns if c.kind == "text" and c.fault is None)
        self._others = tuple(c for c in columns if c.kind == "json" or c.fault is not None)
        self._unseen = {column.name for column in columns if column.optional}
        self._there: list[str] = []

    def values(self, row: Mapping[str, Any], number: int, place: str) -> dict[str, Any] | None:
        """The columns' values, or None where there is a fault in this row or one before it."""
        if self._unseen:
            self._unseen.difference_update(row)
            self._there = self._there or list(row)
        values = self._sound_values(row)
        if values is None:
            values = self._told_values(row, f"row {number} ({place})")
        return None if self._faults.counts else values

    def _sound_values(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """The fast path, for a row that is as it should be."""
        try:
            values = {name: row[name] for name in self._names}
        except KeyError:
            return None
        for name in self._texts:
            value = values[name]
            if type(value) is not str or not (value.isascii() or is_unicode(value)):
                return None
        for column in self._others:
            if column.fault_of(values[column.name]) is not None:
                return None
        return values

    def _told_values(self, row: Mapping[str, Any], place: str) -> dict[str, Any]:
        values = {}
        for column in self._columns:
            value = row.get(column.name)
            if value is None and column.optional:
                value = column.missing
            elif column.name not in row:
                self._faults.add(_absence(column.name, row), place)
            elif fault := column.fault_of(value):
                self._faults.add(f"column {column.name!r} {fault}", place)
            values[column.name] = value
        return values

    def refuse_absent(self) -> None:
        """An optional column that no row has is probably called otherwise."""
        if self._there:
            for name in sorted(self._unseen):
                self._faults.add(_absence(name, self._there), "any row")


def _absence(name: str, there: Sequence[str] | Mapping[str, Any]) -> str:
    names = ", ".join(map(repr, there)) or "none"
    return (
        f"no column {name!r} (columns there: {names}; `dataset.columns` maps names that differ; "
        "write null for an input or tools that the rows do not have)"
    )
