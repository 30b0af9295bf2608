"""Checkpoints of an interrupted training: sealed with digests, so that a damaged one is noticed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from runner.digests import file_digest
from runner.errors import MachineError
from runner.stored_json import read_json, sync_folder, write_json

SEAL = "sealed.json"
KEPT = 3  # newest checkpoints on disk: one may be torn, the one before it must be there


def seal_checkpoint(folder: Path) -> None:
    """Write the digests of every file of a finished checkpoint; without them it does not count."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL)
    digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    write_json(folder / SEAL, {"files": digests})
    sync_folder(folder.parent)


def fault_of(folder: Path) -> str | None:
    """Why the checkpoint cannot be used, or None if every file is as it was sealed."""
    if not (folder / SEAL).is_file():
        return "it was not finished"
    try:
        sealed: dict[str, str] = read_json(folder / SEAL)["files"]
    except (MachineError, KeyError, TypeError):
        return f"its {SEAL} is damaged"
    for name, digest in sealed.items():
        path = folder / name
        if not path.is_file():
            return f"its {name} is missing"
        if file_digest(path) != digest:
            return f"its {name} is damaged"
    return None


def checkpoint_step(folder: Path) -> int:
    """The optimizer step after which a checkpoint was made."""
    return int(folder.name.rpartition("-")[2])


def newest_intact(checkpoints: Path, announce: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that can be continued from; damaged ones are removed and announced."""
    found = [p for p in checkpoints.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    for folder in sorted(found, key=checkpoint_step, reverse=True):
        fault = fault_of(folder)
        if fault is None:
            return folder
        announce(f"checkpoint of step {checkpoint_step(folder)} is not used: {fault}")
        shutil.rmtree(folder)
    return None
