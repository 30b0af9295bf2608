"""The cache of prepared data: an entry is whole and as it was written, or it is made anew."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runner.data.prepared_data import PreparedData, prepared_data_from_json
from runner.digests import digest_of_json, file_digest
from runner.errors import MachineError
from runner.stored_json import read_json, sync_folder, write_json

RECORD = "prepared.json"


def read_prepared(folder: Path, announce: Callable[[str], None]) -> PreparedData | None:
    """The entry in ``folder`` after checking every file's digest; None where there is none.

    A damaged entry is announced and removed.
    """
    if not folder.is_dir():
        return None
    damage = _damage(folder)
    if damage is None:
        return prepared_data_from_json(read_json(folder / RECORD)["data"], folder)
    announce(f"the cached data in {folder} is damaged ({damage}) and is prepared anew")
    shutil.rmtree(folder)
    return None


def _damage(folder: Path) -> str | None:
    try:
        stored = read_json(folder / RECORD)
        data = prepared_data_from_json(stored["data"], folder)
        digest = stored["digest"]
    except MachineError as error:
        return str(error)
    except (KeyError, TypeError):
        return f"{RECORD} is not a record of prepared data"
    if digest_of_json(stored["data"]) != digest:
        return f"{RECORD} was changed"
    for name, partition in data.partitions.items():
        path = data.path(name)
        if not path.is_file():
            return f"{path.name} is missing"
        if file_digest(path) != partition.sha256:
            return f"{path.name} was changed"
    return None


def store_prepared(target: Path, build: Callable[[Path], PreparedData]) -> PreparedData:
    """Build an entry beside ``target`` and move it there in one step.

    Where another process was quicker, its entry is used: both hold the same.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"{target.parent}: the cache cannot be written ({error.strerror}). The environment "
            "variable PROOFBOX_CACHE can name another folder."
        ) from None
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
    ) as temporary:
        folder = Path(temporary) / "entry"
        folder.mkdir()
        built = build(folder)
        values = built.as_json()
        write_json(folder / RECORD, {"data": values, "digest": digest_of_json(values)})
        _sync_files(folder)
        try:
            folder.rename(target)
        except OSError:
            if _damage(target) is not None:
                raise
        sync_folder(target.parent)
    return replace(built, folder=str(target))


def _sync_files(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
