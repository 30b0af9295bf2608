"""SHA-256 digests of files, JSON values, texts and rows: how results are named by their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def text_digest(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, read in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """One text for equal JSON values: sorted keys, no white space, no NaN."""
    return _CANONICAL.encode(value)


def digest_of_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """SHA-256 of ``canonical_json(value)``.

    Raises:
        ValueError: the value holds NaN or an infinity.
    """
    return text_digest(canonical_json(value))


def digest_of_lines(lines: Iterable[str]) -> str:
    """SHA-256 of texts in their order, each ended by a line feed: the digest of a membership."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()
