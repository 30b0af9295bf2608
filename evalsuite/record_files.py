"""Records as JSON files: strict to read, atomic to write, the same bytes for the same record."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from evalsuite.errors import EvidenceError
from evalsuite.records import Evidence, Verdict

Record = TypeVar("Record")

# JSON has no infinity; an interval without information is written as these strings.
_INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}


def read_evidence(path: Path) -> Evidence:
    """The evidence of a run.

    Raises:
        EvidenceError: The file is missing, is not JSON, lacks or adds a key, or holds NaN.
    """
    return _read(Evidence, path)


def read_verdict(path: Path) -> Verdict:
    """The verdict of a run.

    Raises:
        EvidenceError: As `read_evidence`.
    """
    return _read(Verdict, path)


def write_evidence(evidence: Evidence, path: Path) -> None:
    """Write ``evidence`` atomically."""
    write_json(to_json(evidence), path)


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Write ``verdict`` atomically."""
    write_json(to_json(verdict), path)


def evidence_digest(evidence: Evidence) -> str:
    """SHA-256 of the evidence as it is written to its file."""
    return hashlib.sha256(json_text(to_json(evidence)).encode()).hexdigest()


def to_json(record: object) -> object:
    """A record as plain JSON values; infinities become strings.

    A whole number in a field of type float is written as a float, so that the record read back is
    written with the same bytes.

    Raises:
        EvidenceError: A number is NaN.
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        hints = _type_hints(type(record))
        return {name: _field(hints[name], getattr(record, name)) for name in hints}
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, tuple | list):
        return [to_json(value) for value in record]
    if isinstance(record, float):
        return _json_number(record)
    return record


@functools.cache
def _type_hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _field(kind: object, value: object) -> object:
    is_float = kind is float or float in typing.get_args(kind)
    if is_float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return to_json(value)


def json_text(value: object) -> str:
    """Canonical JSON: sorted keys, indent 1, a final newline."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(value: object, path: Path) -> None:
    """Write plain JSON values so that the file is either whole or not there."""
    write_atomically(json_text(value).encode(), path)


def write_atomically(content: bytes, path: Path) -> None:
    """Write to a temporary name beside ``path``, flush to disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files only their owner may read: records and reports are handed on.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def from_json(kind: type[Record], value: object, where: str) -> Record:
    """A record of class ``kind`` from plain JSON values; ``where`` names the place in errors.

    Raises:
        EvidenceError: A key is missing or unknown, or a value is of another type.
    """
    if not isinstance(value, dict):
        raise EvidenceError(f"{where}: expected an object, found {type(value).__name__}.")
    hints = typing.get_type_hints(kind)
    missing = sorted(hints.keys() - value.keys())
    unknown = sorted(value.keys() - hints.keys())
    if missing or unknown:
        fault = f"key {missing[0]} is missing" if missing else f"key {unknown[0]} is unknown"
        raise EvidenceError(f"{where}: {fault}; write the file anew with this version.")
    return kind(**{key: _value(hints[key], value[key], f"{where}.{key}") for key in hints})


def read_records(kind: type[Record], path: Path) -> tuple[Record, ...]:
    """A JSON list of records of one class.

    Raises:
        EvidenceError: As `read_evidence`.
    """
    values = _json_of(path)
    if not isinstance(values, list):
        raise EvidenceError(f"{path.name}: expected a list, found {type(values).__name__}.")
    return tuple(from_json(kind, value, f"{path.name}[{i}]") for i, value in enumerate(values))


def _read(kind: type[Record], path: Path) -> Record:
    return from_json(kind, _json_of(path), path.name)


def _json_of(path: Path) -> object:
    try:
        value: object = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_refuse_constant
        )
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{path}: is not valid JSON: {error}.") from error
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that evidence may hold")


def _json_number(number: float) -> float | str:
    if math.isnan(number):
        raise EvidenceError("a number of the record is NaN; NaN is never evidence.")
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _value(kind: object, value: object, where: str) -> object:
    """``value`` as the annotated type ``kind`` of a record's field."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _literal(arguments, value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _value(inner, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_json(kind, value, where)
    if not isinstance(kind, type):
        raise TypeError(f"{where}: no rule reads a field of type {kind}.")
    return _scalar(kind, value, where)


def _literal(allowed: tuple[Any, ...], value: object, where: str) -> object:
    if value not in allowed:
        raise EvidenceError(f"{where}: {value!r} is not one of {', '.join(map(str, allowed))}.")
    return value


def _tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise EvidenceError(f"{where}: expected a list, found {type(value).__name__}.")
    return tuple(_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))


def _scalar(kind: type, value: object, where: str) -> object:
    if kind is float and isinstance(value, str) and value in _INFINITIES:
        return _INFINITIES[value]
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise EvidenceError(f"{where}: expected {kind.__name__}, found {value!r}.")
    return value
