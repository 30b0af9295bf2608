"""Reads rows as preparing does, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.data.reading.row_column import Column
from runner.data.reading.row_reading import ReadRow, read_rows
from runner.data.reading.sources import resolve_source
from runner.errors import DataError
from runner.recipe import Dataset

ROWS = [{"instruction": f"do {i}", "output": f"done {i}"} for i in range(3)]
COLUMNS = [Column(name="instruction"), Column(name="output")]


def json_lines(rows: Sequence[object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_whole(
    folder: Path, source: Any, columns: Sequence[Column] = COLUMNS, **keys: Any
) -> list[ReadRow]:
    dataset = Dataset.model_validate({"source": source, **keys})
    return list(read_rows(resolve_source(dataset, folder), columns))


def read(
    folder: Path, source: Any, columns: Sequence[Column] = COLUMNS, **keys: Any
) -> list[dict[str, Any]]:
    return [row.values for row in read_whole(folder, source, columns, **keys)]


def message_of(
    folder: Path,
    source: Any,
    columns: Sequence[Column] = COLUMNS,
    error: type[Exception] = DataError,
    **keys: Any,
) -> str:
    with pytest.raises(error) as caught:
        read(folder, source, columns, **keys)
    return str(caught.value)
