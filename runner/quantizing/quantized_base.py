"""The stage ``quantize``: the recipe's full-precision base becomes a GPTQ checkpoint, or is one.

What comes after has the quantized base in the place of the recipe's: evaluations, training, the
proof of the saved adapter, gates and the release (docs/decisions/0022).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.base_model.model_source import ModelSource, local_model
from runner.cache import cache_folder
from runner.digests import digest_of_json
from runner.errors import DataError, MachineError
from runner.fresh_process import FreshProcessError, own_command, own_environment
from runner.quantizing.calibration import CalibrationRows, calibration_rows
from runner.quantizing.quantized_cache import (
    CHECKPOINT,
    QuantizedBase,
    QuantizedRecord,
    read_quantized,
    store_quantized,
)
from runner.quantizing.quantizing_job import QuantizingJob, result_from_json
from runner.recipe import Quantization
from runner.stored_json import read_json, write_json
from runner.versions import QUANTIZING, code_digest

if TYPE_CHECKING:
    from runner.data.preparation import PreparedData
    from runner.plan import Plan
    from runner.progress import Progress

JOB, RESULT = "job.json", "result.json"
# Packages that decide what the checkpoint holds.
DECIDING = ("gptqmodel", "torch", "transformers", "safetensors")
# What decides how a base is quantized; the kernel only computes with it.
_SETTINGS = ("method", "bits", "group_size", "desc_act", "sym", "damp")


def needs_quantizing(block: Quantization, source: ModelSource) -> bool:
    """Whether the run makes the quantized base itself."""
    return block.method == "gptq" and source.quantization is None


def quantized_base(plan: Plan, data: PreparedData, progress: Progress) -> QuantizedBase:
    """The quantized base of ``plan``, from the cache or made now.

    Raises:
        DataError: there are no rows to calibrate with.
        MachineError: gptqmodel cannot quantize this base.
        FreshProcessError: as the process that quantizes ended.
    """
    rows = calibration_rows(data, plan.recipe.quantization.calibration, seed=plan.recipe.seed)
    folder = entry_folder(plan, rows)
    name = plan.model.name
    found = read_quantized(folder, name, progress.announce)
    if found is not None:
        progress.announce(f"  {_summary(found.record)}: taken from the cache")
        return found
    store_quantized(folder, lambda checkpoint: _made(plan, rows, folder.name, checkpoint))
    made = read_quantized(folder, name, progress.announce)
    if made is None:
        raise MachineError(f"{folder}: the quantized base was changed as soon as it was there")
    progress.announce(f"  {_summary(made.record)}")
    return made


def quantized_plan(plan: Plan, data: PreparedData, progress: Progress) -> Plan:
    """``plan`` with the quantized base in the place of the full-precision one; recorded nowhere."""
    if not needs_quantizing(plan.recipe.quantization, plan.model):
        return plan
    return replace(plan, model=quantized_base(plan, data, progress).source)


def cached_quantized_plan(plan: Plan, data: PreparedData, progress: Progress) -> Plan | None:
    """As ``quantized_plan`` where nothing is left to be made, else None."""
    if not needs_quantizing(plan.recipe.quantization, plan.model):
        return plan
    rows = calibration_rows(data, plan.recipe.quantization.calibration, seed=plan.recipe.seed)
    found = read_quantized(entry_folder(plan, rows), plan.model.name, progress.announce)
    return None if found is None else replace(plan, model=found.source)


def recorded_quantized_plan(plan: Plan, data: PreparedData, progress: Progress) -> Plan:
    """As ``quantized_plan``, and the run folder says in its lock and a record which base it is.

    Raises:
        DataError: what the run has trained already is on another quantized base.
    """
    base = quantized_base(plan, data, progress)
    _check_same(plan, base.record)
    write_json(plan.folder.quantized, base.record.as_json())
    values = base.record.as_json()
    modules = values["result"].pop("modules")
    lock = {**read_json(plan.folder.lock), "quantized": {**values, "modules": len(modules)}}
    write_json(plan.folder.lock, lock)
    return replace(plan, model=base.source)


def with_recorded_base(plan: Plan) -> Plan:
    """``plan`` as the run goes on with it: in a fresh process, and where the run is taken up again.

    Raises:
        DataError: the quantized base is not there any more, or is another one.
    """
    if not needs_quantizing(plan.recipe.quantization, plan.model):
        return plan
    record = read_json(plan.folder.quantized)
    place = quantized_folder() / record["key"] / CHECKPOINT
    if not place.is_dir():
        raise DataError(
            f"{place}: the quantized base of this run is gone from the cache. `proofbox run` with "
            "its recipe makes it again."
        )
    source = local_model(plan.model.name, place)
    if source.digest != record["digest"]:
        raise DataError(
            f"{place}: not the quantized base of this run: its files changed. `proofbox run` with "
            "its recipe makes it again."
        )
    return replace(plan, model=source)


def quantized_folder() -> Path:
    """Where all quantized bases are."""
    return cache_folder() / "quantized"


def entry_folder(plan: Plan, rows: CalibrationRows) -> Path:
    """Where the quantized base of ``plan`` is or will be, by all that decides what it holds."""
    key = digest_of_json(
        {
            "base": plan.model.digest,
            "quantization": settings_of(plan.recipe.quantization),
            "dtype": plan.recipe.model.dtype,
            "calibration": rows.digest,
            "versions": _deciding(plan.versions),
            "code": code_digest(QUANTIZING),
        }
    )
    return quantized_folder() / key[:32]


def settings_of(block: Quantization) -> dict[str, Any]:
    """The keys of the recipe's block that decide how a base is quantized."""
    return block.model_dump(mode="json", include=set(_SETTINGS))


def _deciding(versions: Mapping[str, str]) -> dict[str, str]:
    return {name: versions[name] for name in DECIDING if name in versions}


def _check_same(plan: Plan, record: QuantizedRecord) -> None:
    """An adapter belongs to the very weights that it was trained on."""
    if not plan.folder.quantized.is_file():
        return
    before = read_json(plan.folder.quantized)["digest"]
    begun = plan.folder.training.is_file() or plan.folder.checkpoints.is_dir()
    if before != record.digest and begun:
        raise DataError(
            "the quantized base is not the one that this run was trained on (its digest is "
            f"{record.digest[:12]}, was {before[:12]}): the cache was emptied, and another "
            "machine, device or number of threads rounds differently. Put the cache back, or run "
            "again with --restart."
        )


def _made(plan: Plan, rows: CalibrationRows, key: str, checkpoint: Path) -> QuantizedRecord:
    """Quantize in a fresh process and give the record of what is in ``checkpoint`` then."""
    from runner.base_model.loaded_model import choose_dtype

    dtype = str(choose_dtype(plan.recipe.model, plan.model, plan.device)).removeprefix("torch.")
    job = QuantizingJob(
        recipe=plan.recipe,
        base=plan.model.place,
        token_ids=rows.token_ids,
        dtype=dtype,
        device=plan.device,
        threads=plan.threads,
    )
    with tempfile.TemporaryDirectory(prefix=".quantizing-", dir=checkpoint.parent) as scratch:
        job.write(Path(scratch) / JOB)
        _quantize(Path(scratch), checkpoint, plan)
        result = result_from_json(read_json(Path(scratch) / RESULT))
    return QuantizedRecord(
        key=key,
        digest=local_model(plan.model.name, checkpoint).digest,
        base_digest=plan.model.digest,
        quantization=settings_of(plan.recipe.quantization),
        examples=len(rows.token_ids),
        tokens=rows.tokens,
        calibration_digest=rows.digest,
        dtype=dtype,
        device=plan.device,
        threads=plan.threads,
        versions=_deciding(plan.versions),
        result=result,
    )


def _quantize(scratch: Path, checkpoint: Path, plan: Plan) -> None:
    """Run the process that quantizes, in a folder of its own: gptqmodel leaves logs there."""
    command = own_command("quantize-base", str(scratch), str(checkpoint))
    finished = subprocess.run(command, check=False, cwd=scratch, env=_environment(plan))
    if finished.returncode != 0:
        raise FreshProcessError(
            finished.returncode, what="the quantizing", lower="quantization.calibration.max_length"
        )


def _environment(plan: Plan) -> dict[str, str]:
    """What gptqmodel reads when it is imported.

    One GPU at most: it would share layers out among all that it sees. At least two workers: with
    one, a task that waits for another never ends.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {
        **own_environment(),
        "CUDA_VISIBLE_DEVICES": visible if plan.device == "cuda" else "",
        "GPTQMODEL_CPU_WORKERS": str(max(2, min(8, plan.threads))),
        "GPTQMODEL_DISABLE_PACK_EXT": "1",
        "OMP_NUM_THREADS": str(plan.threads),
        "TORCH_COMPILE_DISABLE": "1",
    }


def _summary(record: QuantizedRecord) -> str:
    block = record.quantization
    worst = max(record.result.modules, key=lambda module: module.weight_error)
    return (
        f"base quantized to {block['bits']} bits, groups of {block['group_size']}, with "
        f"{record.examples:,} rows of train ({record.tokens:,} tokens): weights differ by "
        f"{worst.weight_error:.1%} at most ({worst.name})"
    )
