"""Quantized bases in the cache: an entry is whole and as it was written, or it is made anew.

An entry is a folder named by all that its content depends on, with the checkpoint and a record of
how it was made. It is made in a folder beside, named after the process, and renamed in the end:
what a killed process left is no entry, and the next one sweeps it away.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.base_model.model_source import ModelSource, local_model
from runner.cache import beside, sync_files
from runner.errors import MachineError
from runner.quantizing.quantizing_job import QuantizingResult, result_from_json
from runner.stored_json import read_json, sync_folder, write_json

CHECKPOINT, RECORD = "checkpoint", "record.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedRecord:
    """How a quantized base was made.

    ``digest`` is the checkpoint's, as ``ModelSource`` has it; ``base_digest`` that of the
    full-precision base. ``examples``, ``tokens`` and ``calibration_digest`` are about the rows of
    train that it was calibrated with.
    """

    key: str
    digest: str
    base_digest: str
    quantization: Mapping[str, Any]
    examples: int
    tokens: int
    calibration_digest: str
    dtype: str
    device: str
    threads: int
    versions: Mapping[str, str]
    result: QuantizingResult

    def as_json(self) -> dict[str, Any]:
        """Plain values, none of them a path of this machine."""
        return asdict(self)


def record_from_json(values: Mapping[str, Any]) -> QuantizedRecord:
    """The record back from ``as_json``.

    Raises:
        KeyError, TypeError: something is missing or too much.
    """
    return QuantizedRecord(**{**values, "result": result_from_json(values["result"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedBase:
    """A quantized base in the cache: where its checkpoint is, and how it was made."""

    source: ModelSource
    record: QuantizedRecord


def read_quantized(
    folder: Path, name: str, announce: Callable[[str], None]
) -> QuantizedBase | None:
    """The entry in ``folder`` after checking its digest; None where there is none.

    ``name`` is the recipe's word for the base. A damaged entry is announced and removed.
    """
    if not folder.is_dir():
        return None
    try:
        record = record_from_json(read_json(folder / RECORD))
        source = local_model(name, folder / CHECKPOINT)
    except (KeyError, TypeError, MachineError) as error:
        damage = str(error)
    else:
        if source.digest == record.digest:
            return QuantizedBase(source=source, record=record)
        damage = "its files changed"
    announce(f"the quantized base in {folder} is damaged ({damage}) and is made anew")
    shutil.rmtree(folder)
    return None


def store_quantized(folder: Path, make: Callable[[Path], QuantizedRecord]) -> None:
    """Let ``make`` fill a folder beside ``folder`` with a checkpoint; it becomes the entry at once.

    Where another process was quicker, its entry stays.
    """
    with beside(folder) as temporary:
        record = make(temporary / CHECKPOINT)
        write_json(temporary / RECORD, record.as_json())
        sync_files(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / RECORD).is_file():
                raise
    sync_folder(folder.parent)
