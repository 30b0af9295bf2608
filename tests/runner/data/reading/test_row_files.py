"""Every kind of file, plain and compressed: the same rows, and a place for everything broken."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from runner.data.reading.row_column import Column
from runner.data.reading.row_files import LONGEST_VALUE, file_kind
from runner.errors import MachineError
from tests.runner.data.reading.source_rows import ROWS, json_lines, message_of, read, read_whole


def _zstandard(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": _zstandard,
}
CONTENT = {
    ".jsonl": json_lines(ROWS),
    ".json": json.dumps(ROWS, indent=2),
    ".csv": "instruction,output\n" + "".join(f"{r['instruction']},{r['output']}\n" for r in ROWS),
}


@pytest.mark.parametrize("packed", COMPRESS)
@pytest.mark.parametrize("kind", CONTENT)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str, packed: str) -> None:
    name = f"rows.v1{kind}{packed}"
    (tmp_path / name).write_bytes(COMPRESS[packed](CONTENT[kind].encode()))
    assert read(tmp_path, name) == ROWS


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    rows = read_whole(tmp_path, "d.parquet")
    assert [row.values for row in rows] == ROWS
    assert rows[2].place == "d.parquet, row 2"


@pytest.mark.parametrize("packed", [p for p in COMPRESS if p])
@pytest.mark.parametrize("cut", [0.5, 0.98])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, packed: str, cut: float) -> None:
    content = COMPRESS[packed](
        json_lines([{**r, "n": i * 7919} for i in range(500) for r in ROWS]).encode()
    )
    (tmp_path / f"a.jsonl{packed}").write_bytes(content[: int(len(content) * cut)])
    message = message_of(tmp_path, f"a.jsonl{packed}", error=MachineError)
    assert message.startswith(f"a.jsonl{packed}: not a sound {packed} file")
    (tmp_path / f"a.jsonl{packed}").write_bytes(b"no such thing\n")
    message = message_of(tmp_path, f"a.jsonl{packed}", error=MachineError)
    assert message.startswith(f"a.jsonl{packed}: not a sound {packed} file")


def test_kinds_are_told_by_the_name() -> None:
    assert file_kind("a.b.JSONL.GZ") == ".jsonl.gz"
    assert file_kind("a.parquet") == ".parquet"
    for name in ("a", "a.gz", "a.parquet.gz", "a.jsonl.zip", "jsonl", "a.txt"):
        assert file_kind(name) is None


def test_text_stays_as_it_is(tmp_path: Path) -> None:
    """Readers that guess types turn dates into timestamps and the text NA into null."""
    rows = [{"instruction": "2020-01-01", "output": text} for text in ("NA", "1", "", "null")]
    (tmp_path / "a.jsonl").write_text(json_lines(rows))
    assert read(tmp_path, "a.jsonl") == rows
    lines = ["instruction,output", *(f"{r['instruction']},{r['output']}" for r in rows)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert read(tmp_path, "a.csv") == rows


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\ufeff" + json_lines(ROWS).replace("\n", "\n\n"))
    assert read(tmp_path, "a.jsonl") == ROWS
    (tmp_path / "b.json").write_text("\ufeff" + json.dumps(ROWS))
    assert read(tmp_path, "b.json") == ROWS
    (tmp_path / "c.csv").write_text("\ufeff" + CONTENT[".csv"].replace("\n", "\r\n\r\n"))
    assert read(tmp_path, "c.csv") == ROWS


def test_a_json_file_may_hold_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json_lines(ROWS))
    assert read(tmp_path, "a.json") == ROWS


def test_white_space_around_a_line_and_escapes_are_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b' {"instruction": "\\u00e9", "output": "\\ud83d\\ude42"} \t\r\n'
    )
    assert read(tmp_path, "a.jsonl") == [{"instruction": "é", "output": "🙂"}]


def test_places_are_lines_also_where_a_csv_value_goes_over_several(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('instruction,output\na,"1\n2\n3"\n\nb,c\n')
    assert [row.place for row in read_whole(tmp_path, "a.csv")] == ["a.csv:2", "a.csv:6"]
    (tmp_path / "a.jsonl").write_text("\n" + json_lines(ROWS))
    assert next(row.place for row in read_whole(tmp_path, "a.jsonl")) == "a.jsonl:2"


def test_every_malformed_line_is_named(tmp_path: Path) -> None:
    lines = json_lines(ROWS).splitlines()
    lines[1:1] = ['{"instruction": "x"', "[1, 2]", '{"a": 1} {"a": 2}', "[" * 100_000]
    lines.append('{"a": ' + "9" * 5000 + "}")
    (tmp_path / "a.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"output": "\xff"}\n')
    message = message_of(tmp_path, "a.jsonl")
    assert "not JSON (Expecting ',' delimiter): a.jsonl:2:20" in message
    assert "not a JSON object with columns as keys: a.jsonl:3" in message
    assert "not JSON (Extra data): a.jsonl:4:10" in message
    assert "JSON nested too deeply: a.jsonl:5" in message
    assert "a number is too long: a.jsonl:8" in message
    assert "not UTF-8: a.jsonl:9:13" in message


def test_faults_of_several_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"a": 1},\n{"a" 2}\n]')
    (tmp_path / "b.csv").write_text("output,output\nx,y\n")
    (tmp_path / "c.jsonl").write_text("{\n")
    message = message_of(tmp_path, ["a.json", "b.csv", "c.jsonl"])
    assert "a.json:3:6" in message
    assert "the header names a column twice: output: b.csv:1" in message
    assert "c.jsonl:1:2" in message


def test_a_malformed_csv_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("instruction,output\nx,y\nx,y,z\n")
    assert "not 2 values as the header has: a.csv:3 (3)" in message_of(tmp_path, "a.csv")
    (tmp_path / "a.csv").write_text('instruction,output\nx,"y\n')
    assert "not CSV: unexpected end of data: a.csv:2" in message_of(tmp_path, "a.csv")
    (tmp_path / "a.csv").write_bytes(b"instruction,output\nx,\xff\n")
    assert "not UTF-8: a.csv, after line" in message_of(tmp_path, "a.csv")


def test_a_quotation_mark_that_is_never_closed_does_not_swallow_the_file(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w") as file:
        file.write('instruction,output\nx,"y\n' + "a,b\n" * (LONGEST_VALUE // 4 + 10))
    assert "field larger than field limit" in message_of(tmp_path, "a.csv")


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    content = (tmp_path / "d.parquet").read_bytes()
    (tmp_path / "d.parquet").write_bytes(content[: len(content) // 2])
    assert "d.parquet: not a sound" in message_of(tmp_path, "d.parquet", error=MachineError)


def test_fields_that_only_other_rows_have_are_not_there(tmp_path: Path) -> None:
    """Arrow gives every object of a column all fields that any of them has."""
    chats: list[Any] = [
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": False}],
        [{"role": "user", "content": "a", "name": "Ada"}],
    ]
    parquet.write_table(pa.Table.from_pylist([{"chat": c} for c in chats]), tmp_path / "a.parquet")
    columns = [Column(name="chat", kind="json")]
    assert read(tmp_path, "a.parquet", columns) == [{"chat": chat} for chat in chats]


def test_what_json_cannot_say_is_told_by_type(tmp_path: Path) -> None:
    table = pa.table({"when": pa.array([0], pa.timestamp("s")), "x": [[float("nan")]]})
    parquet.write_table(table, tmp_path / "a.parquet")
    columns = [Column(name=name, kind="json") for name in ("when", "x")]
    message = message_of(tmp_path, "a.parquet", columns)
    assert "column 'when' holds a datetime, which is no JSON: row 0 (a.parquet, row 0)" in message
    assert "column 'x' holds nan, which no JSON has" in message
