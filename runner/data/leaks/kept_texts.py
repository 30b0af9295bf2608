"""Questions and answers of examples in a file of their own, from which single ones can be read.

Leaks are decided by the texts of pairs all over the data. A Parquet file gives a text only with the
thousand around it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("question", "answer")


class KeptTexts:
    """A file that texts are added to, and then read from by row number."""

    def __init__(self, path: Path, rows: int) -> None:
        """Begin an empty file for the texts of row numbers below ``rows``."""
        self._path = path
        self._file = path.open("w+b")
        self._end = 0
        # Where the texts of a row lie, one after the other: shapes [rows] and [rows, 2], in bytes.
        self._begins = np.full(rows, -1, dtype=np.int64)
        self._sizes = np.zeros((rows, len(_COLUMNS)), dtype=np.int32)

    def add(self, rows: NDArray[np.int64], table: pa.Table) -> None:
        """Add the columns ``question`` and ``answer`` of ``table``, which lie beside ``rows``."""
        texts = [table[name].to_pylist() for name in _COLUMNS]
        pairs = [(q.encode(), a.encode()) for q, a in zip(*texts, strict=True)]
        sizes = np.array([(len(q), len(a)) for q, a in pairs], dtype=np.int32).reshape(-1, 2)
        whole = sizes.sum(axis=1, dtype=np.int64)
        self._begins[rows] = self._end + np.cumsum(whole) - whole
        self._sizes[rows] = sizes
        self._end += self._file.write(b"".join(text for pair in pairs for text in pair))

    def texts(self, rows: Sequence[int]) -> list[tuple[str, str]]:
        """Question and answer of each of ``rows``, in their order.

        Raises:
            KeyError: nothing was added for a row.
        """
        self._file.flush()
        return [self._read(row) for row in rows]

    def _read(self, row: int) -> tuple[str, str]:
        begin, (question, answer) = int(self._begins[row]), self._sizes[row].tolist()
        if begin < 0:
            raise KeyError(row)
        both = os.pread(self._file.fileno(), question + answer, begin)
        return both[:question].decode(), both[question:].decode()

    def remove(self) -> None:
        """Close and remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)
