"""Readers of row files: JSON Lines, JSON, CSV and Parquet, each naming the line that is broken."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.data.row_faults import RowFaults
from runner.errors import DataError, MachineError

Row = Mapping[str, Any]
Reader = Callable[[Path, str, RowFaults], Iterator[tuple[str, Row]]]
BATCH = 10_000  # rows of a Parquet file in memory at a time


def read_json_lines(path: Path, name: str, faults: RowFaults) -> Iterator[tuple[str, Row]]:
    """One JSON object a line; blank lines are skipped. Broken lines go into ``faults``."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            row = _json_object(text, f"{name}:{number}", faults)
            if row is not None:
                yield f" ({name}:{number})", row


def _json_object(text: bytes, place: str, faults: RowFaults) -> Row | None:
    try:
        row = json.loads(text.decode().rstrip())
    except json.JSONDecodeError as error:
        faults.add(f"not JSON ({error.msg})", f"{place}:{error.colno}")
    except UnicodeDecodeError:
        faults.add("not UTF-8", place)
    except RecursionError:
        faults.add("JSON nested too deeply", place)
    else:
        if isinstance(row, dict):
            return row
        faults.add("not a JSON object with columns as keys", place)
    return None


def read_json(path: Path, name: str, faults: RowFaults) -> Iterator[tuple[str, Row]]:
    """A JSON array of objects; a file that begins with an object is read as JSON Lines."""
    if not _begins_with_array(path):
        yield from read_json_lines(path, name, faults)
        return
    for index, row in enumerate(_json_array(path, name)):
        if isinstance(row, dict):
            yield "", row
        else:
            faults.add("not a JSON object with columns as keys", f"{name}, element {index}")


def _begins_with_array(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(b"[")


def _json_array(path: Path, name: str) -> list[Any]:
    try:
        rows: list[Any] = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{name}:{line}: not UTF-8") from None
    except RecursionError:
        raise DataError(f"{name}: JSON nested too deeply") from None
    return rows


def read_csv(path: Path, name: str, faults: RowFaults) -> Iterator[tuple[str, Row]]:
    """Comma-separated values with a header line; every value is a text, as it stands."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header: list[str] | None = None
        try:
            for values in reader:
                if not values:
                    continue
                if header is None:
                    header = _csv_header(values, name)
                elif len(values) == len(header):
                    yield f" ({name}:{reader.line_num})", dict(zip(header, values, strict=True))
                else:
                    kind = f"not {len(header)} values as the header has"
                    faults.add(kind, f"{name}:{reader.line_num} ({len(values)})")
        except csv.Error as error:
            raise DataError(f"{name}:{reader.line_num}: not CSV: {error}") from None
        except UnicodeDecodeError:
            raise DataError(f"{name}: not UTF-8 after line {reader.line_num}") from None


def _csv_header(values: list[str], name: str) -> list[str]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise DataError(f"{name}:1: the header names a column twice: {', '.join(twice)}")
    return values


def read_parquet(path: Path, name: str, faults: RowFaults) -> Iterator[tuple[str, Row]]:
    """The rows of a Parquet file; a damaged file is named."""
    import pyarrow as pa
    from pyarrow import parquet

    del faults  # a Parquet file is sound or unreadable as a whole
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    yield "", row
    except (pa.ArrowException, OSError) as error:
        raise MachineError(f"{name}: not a sound Parquet file: {error}") from None


READERS: dict[str, Reader] = {
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
