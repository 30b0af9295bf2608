"""The cache of prepared data: an entry is whole and as it was written, or it is made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from runner.cache import beside, sync_files
from runner.data.prepared_data import LISTINGS, PreparedData, prepared_data_from_json
from runner.data.reading.file_stat_digests import cached_file_digest
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
        if digest_of_json([stored["data"], stored["listings"]]) != stored["digest"]:
            return f"{RECORD} was changed"
        data = prepared_data_from_json(stored["data"], folder)
        listings = {name: stored["listings"][name] for name in LISTINGS}
    except MachineError as error:
        return str(error)
    except (KeyError, TypeError, ValueError):
        return f"{RECORD} is not a record of prepared data"
    partitions = {partition.file: partition.sha256 for partition in data.partitions.values()}
    return _damaged_file(folder, {**partitions, **listings})


def _damaged_file(folder: Path, digests: Mapping[str, str]) -> str | None:
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if cached_file_digest(path) != digest:
            return f"{name} was changed"
    return None


def store_prepared(target: Path, build: Callable[[Path], PreparedData]) -> PreparedData:
    """Build an entry beside ``target`` and move it there in one step.

    Where another process was quicker, its entry is used: both hold the same.
    """
    with beside(target) as folder:
        built = build(folder)
        _write_record(folder, built)
        sync_files(folder)
        try:
            folder.rename(target)
        except OSError:
            if _damage(target) is not None:
                raise
        sync_folder(target.parent)
    return replace(built, folder=str(target))


def _write_record(folder: Path, built: PreparedData) -> None:
    values = built.as_json()
    listings = {name: file_digest(folder / name) for name in LISTINGS}
    digest = digest_of_json([values, listings])
    write_json(folder / RECORD, {"data": values, "listings": listings, "digest": digest})
