from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalsuite.errors import EvaluationError
from evalsuite.examples import Example, read_examples


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def rows_of(examples: list[Example]) -> list[dict[str, Any]]:
    return [
        {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(e).items()}
        for e in examples
    ]


def test_what_was_prepared_is_read(tmp_path: Path, examples: list[Example]) -> None:
    path = write(tmp_path / "test.parquet", rows_of(examples))
    assert read_examples(path) == examples
    assert read_examples(path, limit=3) == examples[:3]


def test_a_missing_column(tmp_path: Path, examples: list[Example]) -> None:
    rows = [{k: v for k, v in row.items() if k != "prompt_ids"} for row in rows_of(examples)]
    with pytest.raises(EvaluationError, match=r"test\.parquet: column prompt_ids is missing"):
        read_examples(write(tmp_path / "test.parquet", rows))


def test_no_rows(tmp_path: Path, examples: list[Example]) -> None:
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist(rows_of(examples)).slice(0, 0), path)
    with pytest.raises(EvaluationError, match="no examples"):
        read_examples(path)


def test_an_id_twice(tmp_path: Path, examples: list[Example]) -> None:
    rows = rows_of([examples[0], examples[0]])
    with pytest.raises(EvaluationError, match="example-000 occurs twice"):
        read_examples(write(tmp_path / "test.parquet", rows))


def test_labels_of_another_length(tmp_path: Path, examples: list[Example]) -> None:
    rows = rows_of(examples[:1])
    rows[0]["labels"] = rows[0]["labels"][:-1]
    with pytest.raises(EvaluationError, match="labels; they must be as many"):
        read_examples(write(tmp_path / "test.parquet", rows))


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_a_missing_or_damaged_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "test.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvaluationError, match="cannot be read as a prepared partition"):
        read_examples(path)
