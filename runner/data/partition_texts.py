"""Questions and answers of prepared examples by row number, read back a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

_COLUMNS = ["row", "question", "answer"]


def partition_texts(paths: Sequence[Path], rows: Sequence[int]) -> list[tuple[str, str]]:
    """Question and answer of each of ``rows``, in their order.

    Args:
        paths: Partition files; in each, examples lie in the order of their row numbers.
        rows: Numbers of rows that are in these files.

    Raises:
        KeyError: a row is in none of them.
    """
    wanted = sorted(set(rows))
    found: dict[int, tuple[str, str]] = {}
    for path in paths:
        for row, question, answer in _read(path, wanted):
            found[row] = (question, answer)
    return [found[row] for row in rows]


def _read(path: Path, wanted: Sequence[int]) -> Iterator[tuple[int, str, str]]:
    """The wanted rows of one file; groups that hold none of them are not read."""
    import numpy as np
    from pyarrow import parquet

    numbers = np.asarray(wanted, dtype=np.int64)
    with parquet.ParquetFile(path) as file:
        place = file.schema_arrow.names.index("row")
        for group in range(file.num_row_groups):
            limits = file.metadata.row_group(group).column(place).statistics
            first, after = np.searchsorted(numbers, [limits.min, limits.max + 1])
            if first == after:
                continue
            table = file.read_row_group(group, columns=_COLUMNS)
            chosen = np.flatnonzero(np.isin(table["row"].to_numpy(), numbers[first:after]))
            taken = table.take(chosen).to_pydict()
            yield from zip(*(taken[name] for name in _COLUMNS), strict=True)
