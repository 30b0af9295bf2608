"""Rows on disk: read once, in Arrow, so that any process can take any batch of them.

The whole of a dataset is never in memory. What is kept of each row while others are read is a few
numbers (``RowIndex``).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runner.digests import digest_of_json

if TYPE_CHECKING:
    import pyarrow as pa

    from runner.data.reading.row_reading import Column, ReadRow

BATCH = 1000  # rows stored, rendered, tokenized and checked at a time, unless they are long:
BATCH_CHARACTERS = 2_000_000  # then a batch ends with the row that reaches this length


@dataclass(frozen=True, slots=True, kw_only=True)
class RowIndex:
    """What is remembered of every row, by its number.

    Shapes: all [rows]. ``contents`` are the first 64 bits of the digest of what a row says;
    ``groups`` and ``strata`` those of the values of the recipe's columns, or None; ``sources`` are
    places in the recipe's list of sources.
    """

    contents: NDArray[np.uint64]
    groups: NDArray[np.uint64] | None
    strata: NDArray[np.uint64] | None
    sources: NDArray[np.int16]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """Some rows, in order. ``places`` are files and lines, or empty texts."""

    start: int
    rows: tuple[dict[str, Any], ...]
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """A file of rows in batches; light enough to be sent to other processes.

    ``starts`` [batches + 1] are the numbers of each batch's first row, and how many rows there are.
    The file has the values of ``columns`` in their order, then the places: a column's name is not
    in it, so none can be in the way of another.
    """

    path: Path
    columns: tuple[str, ...]
    json_columns: frozenset[str]
    starts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.starts[-1]

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return len(self.starts) - 1

    def batch(self, number: int) -> StoredBatch:
        """One batch."""
        *stored, places = (c.to_pylist() for c in _opened(self.path)[1].get_batch(number).columns)
        values = {
            name: [json.loads(text) for text in texts] if name in self.json_columns else texts
            for name, texts in zip(self.columns, stored, strict=True)
        }
        rows = tuple(
            dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)
        )
        return StoredBatch(start=self.starts[number], rows=rows, places=tuple(places))

    def remove(self) -> None:
        """Remove the file; one that stays open would keep its disk space."""
        _opened(self.path)[0].close()
        _opened.cache_clear()
        self.path.unlink()


@lru_cache(maxsize=2)
def _opened(path: Path) -> tuple[pa.NativeFile, pa.RecordBatchFileReader]:
    """An open file: read piece by piece, since mapped pages would count as memory in use."""
    import pyarrow as pa

    file = pa.OSFile(str(path))
    return file, pa.ipc.open_file(file)


def store_rows(
    rows: Iterable[ReadRow],
    columns: Sequence[Column],
    path: Path,
    *,
    content: Callable[[dict[str, Any]], int],
    group: str | None = None,
    stratify: str | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[StoredRows, RowIndex]:
    """Write ``columns`` of every row to ``path``, and remember the index.

    Args:
        rows: Read and checked rows; its errors pass through.
        columns: The columns that are kept.
        path: The file to write.
        content: The 64-bit digest of what a row says.
        group: The column whose equal values belong together; null belongs with equal rows alone.
        stratify: The column whose values are strata.
        on_batch: Told the number of rows so far after each batch.
    """
    writer = _Writer(path, columns)
    index = _IndexMaker(content=content, group=group, stratify=stratify)
    try:
        for row in rows:
            index.add(row)
            if writer.add(row) and on_batch is not None:
                on_batch(writer.rows)
    finally:
        writer.close()
    stored = StoredRows(
        path=path,
        columns=tuple(column.name for column in columns),
        json_columns=frozenset(column.name for column in columns if column.kind == "json"),
        starts=tuple(writer.starts),
    )
    return stored, index.made()


class _Writer:
    """Writes batch after batch; a batch is in memory until it is full."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import pyarrow as pa

        places = range(len(columns) + 1)
        self._schema = pa.schema([pa.field(str(place), pa.large_string()) for place in places])
        self._writer = pa.ipc.new_file(str(path), self._schema)
        self._columns = [(column.name, column.kind == "json") for column in columns]
        self._pending: list[list[str]] = []
        self._characters = 0
        self.starts = [0]

    @property
    def rows(self) -> int:
        return self.starts[-1] + len(self._pending)

    def add(self, row: ReadRow) -> bool:
        """Take one row; whether it filled a batch."""
        texts = [
            json.dumps(row.values[name], ensure_ascii=False) if is_json else row.values[name]
            for name, is_json in self._columns
        ]
        self._pending.append([*texts, row.place])
        self._characters += sum(map(len, texts))
        if len(self._pending) < BATCH and self._characters < BATCH_CHARACTERS:
            return False
        self._flush()
        return True

    def _flush(self) -> None:
        import pyarrow as pa

        columns = zip(*self._pending, strict=True)
        arrays = [pa.array(column, type=pa.large_string()) for column in columns]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self.starts.append(self.rows)
        self._pending, self._characters = [], 0

    def close(self) -> None:
        """Write what is pending and finish the file."""
        if self._pending:
            self._flush()
        self._writer.close()


class _IndexMaker:
    """Gathers the index; 64-bit numbers, so that a million rows take a few megabytes."""

    def __init__(
        self,
        *,
        content: Callable[[dict[str, Any]], int],
        group: str | None,
        stratify: str | None,
    ) -> None:
        self._content, self._group, self._stratify = content, group, stratify
        self._contents, self._groups, self._strata = array("Q"), array("Q"), array("Q")
        self._sources = array("h")

    def add(self, row: ReadRow) -> None:
        self._contents.append(self._content(row.values))
        self._sources.append(row.source)
        if self._group is not None:
            value = row.values[self._group]
            self._groups.append(self._contents[-1] if value is None else value_key(value))
        if self._stratify is not None:
            self._strata.append(value_key(row.values[self._stratify]))

    def made(self) -> RowIndex:
        return RowIndex(
            contents=np.array(self._contents, dtype=np.uint64),
            groups=np.array(self._groups, dtype=np.uint64) if self._group is not None else None,
            strata=np.array(self._strata, dtype=np.uint64) if self._stratify is not None else None,
            sources=np.array(self._sources, dtype=np.int16),
        )


def value_key(value: Any) -> int:  # noqa: ANN401 - any JSON value
    """A 64-bit digest of a JSON value; equal values have equal ones."""
    return int(digest_of_json(value)[:16], 16)
