"""Readers of row files: JSON Lines, JSON, CSV and Parquet, each naming the place that is broken.

They stream: what is in memory at a time is a line, a piece of a file, or a batch of a Parquet file.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from json import JSONDecodeError, JSONDecoder
from pathlib import Path, PurePath
from typing import Any, cast

from runner.data.reading.json_array import read_array
from runner.data.reading.row_faults import RowFaults
from runner.errors import MachineError

Row = Mapping[str, Any]
# Each row with its place, as "rows.jsonl:12".
PlacedRows = Generator[tuple[str, Row], None, None]
BATCH = 2_000  # rows of a Parquet file in memory at a time
BUFFER = 1 << 20  # bytes
# Characters of one CSV value. Where a quotation mark is missing, a value runs on to the file's end.
LONGEST_VALUE = 1 << 24
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

KINDS = (".jsonl", ".json", ".csv", ".parquet")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
# What reading a damaged compressed file raises; Arrow's errors about Zstandard are OSErrors.
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


def file_kind(name: str) -> str | None:
    """The kind that a file's name says, as ``.jsonl`` or ``.csv.gz``, or None if none of ours."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    if not suffixes or suffixes[-1] not in KINDS or (packed and suffixes[-1] == ".parquet"):
        return None
    return suffixes[-1] + packed


def described_kinds() -> str:
    """The kinds of files that are read, for messages."""
    return f"{', '.join(KINDS)}, and all but .parquet with {', '.join(COMPRESSIONS)}"


def read_rows_of_file(path: Path, name: str, faults: RowFaults, columns: Columns) -> PlacedRows:
    """The rows of a file of any kind; what is broken goes into ``faults``.

    Args:
        path: Where it lies.
        name: What messages call it, and what says its kind.
        faults: Gathers malformed lines.
        columns: The only columns that are needed, or None for all; a hint.

    Raises:
        MachineError: the file cannot be read, or is damaged as a whole.
    """
    _, kind, *packed = (file_kind(name) or "").split(".")
    if kind == "parquet":
        yield from read_parquet(path, name, columns)
        return
    try:
        with open_bytes(path, *packed) as file:
            yield from _TEXT_READERS[kind](file, name, faults)
    except _DAMAGED as error:
        raise MachineError(_damage(error, name, packed)) from None


Columns = frozenset[str] | None


def _damage(error: BaseException, name: str, packed: Sequence[str]) -> str:
    if isinstance(error, OSError) and error.errno is not None and not packed:
        return f"{name}: cannot be read: {error.strerror}"
    return f"{name}: not a sound .{''.join(packed)} file: {error or type(error).__name__}"


def open_bytes(path: Path, packed: str = "") -> io.BufferedReader[Any]:
    """A file's content, decompressed as ``packed`` (a name of ``_OPENERS``) says."""
    if not packed:
        return io.BufferedReader(path.open("rb", buffering=0), BUFFER)
    return io.BufferedReader(cast(io.RawIOBase, _OPENERS[packed](path)), BUFFER)


def _open_zstandard(path: Path) -> Any:  # noqa: ANN401 - pyarrow ships no types
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")


_OPENERS: dict[str, Callable[[Path], Any]] = {
    "gz": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "zst": _open_zstandard,
}


# JSON


def read_json_lines(file: io.BufferedReader[Any], name: str, faults: RowFaults) -> PlacedRows:
    """One JSON object a line; blank lines are skipped. Broken lines go into ``faults``."""
    decode = JSONDecoder().raw_decode
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        try:
            # The fast path, for a line that is one object and nothing else.
            decoded = text.decode()
            row, end = decode(decoded)
            if decoded[end:] in ("\n", "", "\r\n") and type(row) is dict:
                yield f"{name}:{number}", row
                continue
        except (ValueError, RecursionError):
            pass  # told below
        if text.strip():
            row = _json_object(text, f"{name}:{number}", faults)
            if row is not None:
                yield f"{name}:{number}", row


def _json_object(line: bytes, place: str, faults: RowFaults) -> Row | None:
    try:
        text = line.decode().rstrip()
        row = JSONDecoder().decode(text)
    except JSONDecodeError as error:
        faults.add(f"not JSON ({error.msg})", f"{place}:{error.colno}")
    except UnicodeDecodeError as error:
        faults.add("not UTF-8", f"{place}:{len(line[: error.start].decode()) + 1}")
    except ValueError:  # an integer of thousands of digits
        faults.add("a number is too long", place)
    except RecursionError:
        faults.add("JSON nested too deeply", place)
    else:
        if isinstance(row, dict):
            return row
        faults.add("not a JSON object with columns as keys", place)
    return None


def read_json(file: io.BufferedReader[Any], name: str, faults: RowFaults) -> PlacedRows:
    """A JSON array of objects; a file that begins with anything else is read as JSON Lines."""
    if not _begins_with_array(file):
        yield from read_json_lines(file, name, faults)
        return
    for place, row in read_array(file, name, faults):
        if isinstance(row, dict):
            yield place, row
        else:
            faults.add("not a JSON object with columns as keys", place)


def _begins_with_array(file: io.BufferedReader[Any]) -> bool:
    head = file.peek(4096).removeprefix(BYTE_ORDER_MARK).lstrip()
    return head.startswith(b"[")


# CSV


def read_csv(file: io.BufferedReader[Any], name: str, faults: RowFaults) -> PlacedRows:
    """Comma-separated values with a header line; every value is a text, as it stands."""
    csv.field_size_limit(LONGEST_VALUE)
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            yield from _csv_rows(reader, name, faults)
        except csv.Error as error:
            faults.add(f"not CSV: {error}", f"{name}:{max(reader.line_num, 1)}")
        except UnicodeDecodeError:
            faults.add("not UTF-8", f"{name}, after line {reader.line_num}")


def _csv_rows(reader: Any, name: str, faults: RowFaults) -> PlacedRows:  # noqa: ANN401 - csv's reader has no public type
    header: list[str] | None = None
    line = 1  # where the row begins: a quoted value may hold line breaks
    for values in reader:
        if not values:
            pass
        elif header is None:
            header = values
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                faults.add(f"the header names a column twice: {', '.join(twice)}", f"{name}:{line}")
                return
        elif len(values) == len(header):
            yield f"{name}:{line}", dict(zip(header, values, strict=True))
        else:
            kind = f"not {len(header)} values as the header has"
            faults.add(kind, f"{name}:{line} ({len(values)})")
        line = reader.line_num + 1


_TEXT_READERS: dict[str, Callable[[io.BufferedReader[Any], str, RowFaults], PlacedRows]] = {
    "jsonl": read_json_lines,
    "json": read_json,
    "csv": read_csv,
}


# Parquet


def read_parquet(path: Path, name: str, columns: Columns) -> PlacedRows:
    """The rows of a Parquet file, with those of ``columns`` that it has; a damaged file is named.

    Raises:
        MachineError: the file is damaged or cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            there = file.schema_arrow.names
            read = there if columns is None else [name for name in there if name in columns]
            number = 0
            for batch in file.iter_batches(batch_size=BATCH, columns=read):
                for row in batch.to_pylist():
                    yield f"{name}, row {number}", without_null_fields(row)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise MachineError(f"{name}: not a sound Parquet file: {error}") from None


def without_null_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of Arrow without the null fields of its objects.

    In Arrow every object of a column has every field that any of them has: a field that is null was
    not there.
    """
    return {name: _without_nulls(value) for name, value in row.items()}


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - any value of Arrow's
    if type(value) is dict:
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    if type(value) is list:
        return [_without_nulls(part) for part in value]
    return value
