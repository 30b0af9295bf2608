"""A JSON array in pieces: the same values as in one, in bounded memory, with exact places."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.reading import json_array
from runner.data.reading.json_array import read_array
from runner.data.reading.row_faults import RowFaults

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _read(content: bytes, piece: int) -> tuple[list[Any], list[str], RowFaults]:
    faults = RowFaults()
    saved, json_array.PIECE = json_array.PIECE, piece
    try:
        found = list(read_array(io.BufferedReader(io.BytesIO(content)), "a.json", faults))  # type: ignore[arg-type]
    finally:
        json_array.PIECE = saved
    return [value for _, value in found], [place for place, _ in found], faults


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=6),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
)
def test_pieces_of_any_size_give_the_same_values(
    rows: list[Any], ascii_only: bool, indent: int | None, piece: int
) -> None:
    content = json.dumps(rows, ensure_ascii=ascii_only, indent=indent)
    values, _, faults = (
        _read(content.encode("utf-8", "surrogatepass"), piece)
        if (ascii_only or _encodable(content))
        else (rows, [], RowFaults())
    )
    assert values == rows
    assert not faults.counts


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("piece", [1, 3, 7, 1 << 20])
def test_places_are_lines_and_columns_of_characters(piece: int) -> None:
    content = '\ufeff[\n  {"a": "é\\n"}, {"b":\n 1},\n\n{"c": 2} ]\n'.encode()
    values, places, faults = _read(content, piece)
    assert values == [{"a": "é\n"}, {"b": 1}, {"c": 2}]
    assert places == ["a.json:2:3", "a.json:2:17", "a.json:5:1"]
    assert not faults.counts


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'[\n{"a": 1},\n{"a" 2}\n]', "not JSON: Expecting ':' delimiter: a.json:3:6"),
        (b'[\n{"a": 1}\n{"a": 2}\n]', "not JSON: Expecting ',': a.json:3:1"),
        (b'[{"a": 1},]', "not JSON: Expecting value: a.json:1:11"),
        (b'[{"a": 1}', "not JSON: Expecting ',': a.json:1:10"),
        (b'[{"a": "x', "not JSON: Unterminated string starting at: a.json:1:8"),
        (b'[{"a": 1}]\n x', "not JSON: Extra data: a.json:2:2"),
        (b'[{"a":\n "\xff"}]', "not UTF-8: a.json:2:3"),
        (b'[{"a": "\xe2\x82', "not UTF-8: a.json:1:9"),
        (b"[\n" + b"[" * 100_000, "JSON nested too deeply: a.json:2:1"),
        (b"[ " + b"9" * 5000 + b"]", "a number is too long: a.json:1:3"),
        (b'[{"a": "1\n2"}]', "not JSON: Invalid control character at: a.json:1:10"),
    ],
)
def test_the_first_fault_ends_the_reading_and_has_its_place(
    content: bytes, line: str, piece: int
) -> None:
    if piece == 1 and len(content) > 1000:
        piece = 1000
    _, _, faults = _read(content, piece)
    assert faults.lines() == [line]


MEASURE = """
import resource, sys
from pathlib import Path
from tests.runner.data.reading.source_rows import COLUMNS
from runner.data.reading.row_reading import read_rows
from runner.data.reading.sources import resolve_source
from runner.recipe import Dataset

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = resolve_source(Dataset(source=sys.argv[1]), Path("/"))
before = peak()
rows = sum(1 for row in read_rows(source, COLUMNS))
print(rows, (peak() - before) // 1024)
"""


@pytest.mark.parametrize("indent", [None, 1])
def test_a_big_array_is_read_in_little_memory(tmp_path: Path, indent: int | None) -> None:
    """60 MB, of which the whole as Python values would take several hundred."""
    row = json.dumps({"instruction": "x" * 100, "output": "é" * 100}, indent=indent)
    count = 60_000_000 // len(row)
    path = tmp_path / "big.json"
    with path.open("w") as file:
        file.write("[")
        file.writelines(f"{row},\n" for _ in range(count - 1))
        file.write(f"{row}]")
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows, megabytes = map(int, done.stdout.split())
    assert rows == count
    assert megabytes < 30
