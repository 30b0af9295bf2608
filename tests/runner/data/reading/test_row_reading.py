"""What of the rows is read: columns, filters, limits; and everything that is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from runner.data.reading.row_column import MAX_DEPTH, Column
from runner.data.reading.row_reading import first_row, read_rows
from runner.data.reading.sources import resolve_source
from runner.errors import DataError
from runner.recipe import Dataset
from tests.runner.data.reading.source_rows import (
    COLUMNS,
    ROWS,
    json_lines,
    message_of,
    read,
    read_whole,
)

JSON_COLUMN = [Column(name="x", kind="json")]


def _write(folder: Path, rows: list[Any], name: str = "a.jsonl") -> None:
    (folder / name).write_text(json_lines(rows))


def test_rows_come_in_order_with_place_and_source(tmp_path: Path) -> None:
    _write(tmp_path, ROWS)
    _write(tmp_path, ROWS[:1], "b.jsonl")
    rows = read_whole(tmp_path, ["b.jsonl", "a.jsonl"])
    assert [row.values for row in rows] == [ROWS[0], *ROWS]
    assert [row.source for row in rows] == [0, 1, 1, 1]
    assert [row.place for row in rows] == ["b.jsonl:1", "a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]


def test_columns_that_nobody_asks_for_may_hold_anything(tmp_path: Path) -> None:
    _write(tmp_path, [{**row, "id": i if i else "x"} for i, row in enumerate(ROWS)])
    assert read(tmp_path, "a.jsonl") == ROWS


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_source_without_rows_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    _write(tmp_path, ROWS, "b.jsonl")
    for source in ("a.jsonl", ["b.jsonl", "a.jsonl"]):
        assert message_of(tmp_path, source) == "dataset.source: a.jsonl has no rows"


def test_a_row_without_the_column_says_which_there_are(tmp_path: Path) -> None:
    _write(tmp_path, [*ROWS, {"instruction": "x", "response": "y"}])
    message = message_of(tmp_path, "a.jsonl")
    assert "no column 'output' (columns there: 'instruction', 'response'" in message
    assert "row 3 (a.jsonl:4)" in message


def test_values_that_are_no_text_are_told_by_type_and_row(tmp_path: Path) -> None:
    wrong = [1, None, True, ["x"], {"x": 1}]
    _write(tmp_path, [*ROWS, *({"instruction": "x", "output": value} for value in wrong)])
    message = message_of(tmp_path, "a.jsonl")
    for place, kind in enumerate(("a number", "null", "a boolean", "a list", "an object"), start=3):
        assert f"column 'output' holds {kind}, not a text: row {place} " in message


def test_many_faults_are_counted_and_the_first_rows_named(tmp_path: Path) -> None:
    _write(tmp_path, [{"instruction": "x", "output": 1}] * 1234)
    message = message_of(tmp_path, "a.jsonl")
    assert "row 0 (a.jsonl:1), " in message
    assert ", … (1,234 in all)" in message
    assert len(message.splitlines()) == 2


def test_no_row_is_given_after_a_fault(tmp_path: Path) -> None:
    _write(tmp_path, [ROWS[0], {"instruction": 1, "output": "x"}, *ROWS])
    rows = read_rows(resolve_source(Dataset(source="a.jsonl"), tmp_path), COLUMNS)
    assert next(rows).values == ROWS[0]
    with pytest.raises(DataError, match="holds a number"):
        next(rows)


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"instruction": "x", "output": "\\ud800", "x": ["\\udc00"]}\n'
    )
    assert "surrogate pair" in message_of(tmp_path, "a.jsonl")
    assert "surrogate pair" in message_of(tmp_path, "a.jsonl", JSON_COLUMN)


def test_numbers_that_are_no_json_and_endless_nesting_are_faults(tmp_path: Path) -> None:
    deep = "[" * (MAX_DEPTH + 5) + "]" * (MAX_DEPTH + 5)
    for value, fault in (
        ("NaN", "holds nan"),
        ("[-Infinity]", "holds -inf"),
        (deep, "levels deep"),
    ):
        (tmp_path / "a.jsonl").write_text(f'{{"x": {value}}}\n')
        assert fault in message_of(tmp_path, "a.jsonl", JSON_COLUMN)


def test_a_json_column_holds_any_value(tmp_path: Path) -> None:
    rows = [{"x": value} for value in (None, 1, "é", [{"a": None}], {"b": [True, 1.5]})]
    _write(tmp_path, rows)
    assert read(tmp_path, "a.jsonl", JSON_COLUMN) == rows


def test_an_optional_column_may_be_null_or_missing(tmp_path: Path) -> None:
    rows = [
        {"instruction": "a", "input": "b"},
        {"instruction": "a", "input": None},
        {"instruction": "a"},
    ]
    _write(tmp_path, rows)
    columns = [Column(name="instruction"), Column(name="input", optional=True)]
    assert [row["input"] for row in read(tmp_path, "a.jsonl", columns)] == ["b", "", ""]
    columns = [Column(name="input", kind="json", optional=True)]
    assert [row["input"] for row in read(tmp_path, "a.jsonl", columns)] == ["b", None, None]
    columns = [Column(name="instruction"), Column(name="context", optional=True)]
    message = message_of(tmp_path, "a.jsonl", columns)
    assert "no column 'context' (columns there: 'instruction', 'input'" in message


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_an_optional_column_that_no_row_has_is_told_for_every_kind(
    tmp_path: Path, kind: str
) -> None:
    _write(tmp_path, ROWS)
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    columns = [*COLUMNS, Column(name="input", optional=True)]
    message = message_of(tmp_path, f"a.{kind}", columns)
    assert "no column 'input' (columns there: 'instruction', 'output'" in message


def test_a_fault_of_a_column_is_the_columns_own(tmp_path: Path) -> None:
    _write(tmp_path, [{"x": 1}, {"x": -1}])
    column = Column(name="x", kind="json", fault=lambda x: "is negative" if x < 0 else None)
    assert "column 'x' is negative: row 1 (a.jsonl:2)" in message_of(tmp_path, "a.jsonl", [column])


def test_a_number_in_parquet_is_told_by_row(tmp_path: Path) -> None:
    table = pa.table({"instruction": ["a", "b"], "output": pa.array([1, 2])})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert "column 'output' holds a number, not a text: row 0 (a.parquet, row 0), row 1" in (
        message_of(tmp_path, "a.parquet")
    )


# Filters and limits


def test_filters_and_limits_choose_rows_per_source(tmp_path: Path) -> None:
    _write(tmp_path, [{**row, "n": n} for n, row in enumerate(ROWS * 4)])
    source = [
        {"path": "a.jsonl", "filter": "n >= 2", "limit": 3},
        {"path": "a.jsonl", "filter": "n < 2"},
    ]
    rows = read_whole(tmp_path, source, filter="n % 2 == 0")
    assert [row.place for row in rows] == ["a.jsonl:3", "a.jsonl:5", "a.jsonl:7", "a.jsonl:1"]
    assert [row.source for row in rows] == [0, 0, 0, 1]


def test_what_is_filtered_out_is_not_checked_and_what_is_over_the_limit_not_read(
    tmp_path: Path,
) -> None:
    _write(tmp_path, [*ROWS, {"instruction": 3, "output": None}])
    assert read(tmp_path, "a.jsonl", filter="output is string") == ROWS
    assert read(tmp_path, [{"path": "a.jsonl", "limit": 3}]) == ROWS


def test_a_filter_sees_columns_that_are_not_read_also_in_parquet(tmp_path: Path) -> None:
    rows = [{**row, "language": "en" if n else "de"} for n, row in enumerate(ROWS)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read(tmp_path, "a.parquet", filter="language == 'en'") == ROWS[1:]


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("langauge == 'en'", "dataset.filter raised UndefinedError: 'langauge' is undefined"),
        ("langauge", "dataset.filter raised UndefinedError: 'langauge' is undefined"),
        ("instruction", "dataset.filter gives a text, neither true nor false"),
        ("instruction | length", "dataset.filter gives a number, neither true nor false"),
        ("1 / 0 == n", "dataset.filter raised ZeroDivisionError"),
        ("instruction > 3", "dataset.filter raised TypeError"),
        ("''.__class__.__mro__ == 1", "dataset.filter raised SecurityError"),
        ("'a' * 9999999999 == 'a'", "dataset.filter raised SecurityError: * would make more"),
    ],
)
def test_a_filter_that_cannot_be_decided_is_a_fault_of_its_row(
    tmp_path: Path, expression: str, fault: str
) -> None:
    _write(tmp_path, ROWS[:2])
    message = message_of(tmp_path, "a.jsonl", filter=expression)
    assert fault in message
    assert message.endswith(": a.jsonl:1, a.jsonl:2")


def test_a_filter_that_passes_nothing_is_an_error(tmp_path: Path) -> None:
    _write(tmp_path, ROWS)
    _write(tmp_path, ROWS, "b.jsonl")
    message = message_of(tmp_path, ["b.jsonl", {"path": "a.jsonl", "filter": "false"}])
    assert message == "dataset.source[1].filter: it passes none of the 3 rows of a.jsonl"
    message = message_of(tmp_path, ["b.jsonl", "a.jsonl"], filter="output == ''")
    assert message == "dataset.filter: it passes no row of b.jsonl, a.jsonl"


def test_a_filter_that_is_no_jinja_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, ROWS)
    for expression in ("a = 1", "a ==", "a) or (b", "x | nonsense", "(" * 5000):
        assert message_of(tmp_path, "a.jsonl", filter=expression).startswith(
            "dataset.filter: not a Jinja condition"
        )


def test_a_column_may_have_the_name_of_a_function_of_jinja(tmp_path: Path) -> None:
    _write(tmp_path, [{**row, "range": "far", "result": "x"} for row in ROWS])
    parquet.write_table(
        pa.Table.from_pylist([{**row, "range": "far", "result": "x"} for row in ROWS]),
        tmp_path / "a.parquet",
    )
    for name in ("a.jsonl", "a.parquet"):
        assert read(tmp_path, name, filter="range == 'far' and result == 'x'") == ROWS


def test_the_first_row_is_that_of_the_file_and_has_all_columns(tmp_path: Path) -> None:
    _write(tmp_path, [{"a": 1, "b": None}, *ROWS])
    record = resolve_source(Dataset(source="a.jsonl", filter="false"), tmp_path)
    assert first_row(record) == {"a": 1, "b": None}
    (tmp_path / "b.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"b\.jsonl:1:2"):
        first_row(resolve_source(Dataset(source="b.jsonl"), tmp_path))
