"""The files of a quantized checkpoint: gptqmodel's weights and settings, the base's own rest."""

from __future__ import annotations

import shutil
from pathlib import Path

from runner.base_model.model_source import MODEL_FILES
from runner.errors import DefectError
from runner.quantizing.quantizing_job import QuantizingJob
from runner.run_folder import remove
from runner.stored_json import read_json

CONFIGURATION = ("config.json", "quantize_config.json")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# Of the base: what its weights are in, and how.
_NOT_COPIED = (*WEIGHTS, "*.bin", "*.bin.index.json", *CONFIGURATION)


def finish_files(job: QuantizingJob, folder: Path) -> None:
    """Make ``folder`` a checkpoint like any other: nothing of this machine, nothing of the data.

    gptqmodel saves the tokenizer with another class and padding, ``generation_config.json`` with
    ``do_sample``, and a log with times: in their place are the base's own files.

    Raises:
        DefectError: the configuration holds more than settings.
    """
    kept = {path for pattern in (*CONFIGURATION, *WEIGHTS) for path in folder.glob(pattern)}
    for path in folder.iterdir():
        if path not in kept:
            remove(path)
    base = Path(job.base)
    left = {path for pattern in _NOT_COPIED for path in base.glob(pattern)}
    for path in sorted({path for pattern in MODEL_FILES for path in base.glob(pattern)} - left):
        shutil.copyfile(path, folder / path.name)
    for name in CONFIGURATION:
        _check_settings(folder / name, job)


def _check_settings(path: Path, job: QuantizingJob) -> None:
    """What was asked for is what the file says, and calibration texts are not in it (trap T4)."""
    values = read_json(path)
    settings = values.get("quantization_config", values)
    block = job.block
    asked = {
        "bits": block.bits,
        "group_size": block.group_size,
        "desc_act": block.desc_act,
        "sym": block.sym,
        "checkpoint_format": "gptq",
        "quant_method": "gptq",
    }
    wrong = [name for name, value in asked.items() if settings.get(name) != value]
    if wrong or settings.get("dataset") is not None:
        raise DefectError(
            f"{path.name} of the quantized checkpoint: {', '.join(wrong) or 'dataset'}"
        )
