"""Digests of files, remembered as git's index does: a file whose stat has not changed is the same.

A big file need not be read again to know its digest. What is remembered counts only where the file
had not changed for a while when it was digested: a change within the clock's resolution after that
would leave the same stat ("racy git", Documentation/technical/racy-git.txt of git).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.cache import cache_folder
from runner.digests import file_digest, text_digest
from runner.errors import MachineError
from runner.stored_json import read_json, write_json

SMALLEST = 1 << 20  # bytes; smaller files are read faster than remembered
SETTLED = 2_000_000_000  # nanoseconds that a file lay unchanged before it was digested


def cached_file_digest(path: Path) -> str:
    """SHA-256 of a file's content; a big file that has not changed since is not read again.

    Raises:
        OSError: the file cannot be read.
    """
    stat = path.stat()
    if stat.st_size < SMALLEST:
        return file_digest(path)
    entry = cache_folder() / "file-digests" / f"{text_digest(os.path.realpath(path))}.json"
    remembered = _remembered(entry)
    key = _key(stat)
    if remembered is not None and remembered.get("stat") == key:
        return str(remembered["sha256"])
    started = time.time_ns()
    digest = file_digest(path)
    settled = max(stat.st_mtime_ns, stat.st_ctime_ns) + SETTLED < started
    if settled and _key(path.stat()) == key:
        with suppress(OSError):  # a cache that cannot be written costs time and nothing else
            write_json(entry, {"stat": key, "sha256": digest})
    return digest


def _key(stat: os.stat_result) -> list[int]:
    """What changes with the content; the inode's change time cannot be set back as mtime can."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]


def _remembered(entry: Path) -> dict[str, Any] | None:
    with suppress(MachineError, OSError):  # absent or damaged: made anew
        values = read_json(entry)
        if isinstance(values, dict) and isinstance(values.get("sha256"), str):
            return values
    return None
