"""JSON on disk that is either the old or the new file, never a half-written one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from runner.errors import MachineError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write ``value`` with sorted keys; NaN and infinity raise ValueError."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file of a run folder; a damaged one is named."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MachineError(f"{path}: this file is missing from the run folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MachineError(
            f"{path}: damaged ({error}). Remove it and run the recipe again to make it anew."
        ) from None
