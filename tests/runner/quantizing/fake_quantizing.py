"""A stand-in for the process that quantizes: the base's own files, with a quantized name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from runner.plan import Plan
from runner.quantizing.quantized_base import JOB, RESULT
from runner.quantizing.quantizing_job import (
    QuantizingResult,
    ReloadCheck,
    RoundedModule,
    read_job,
)
from runner.stored_json import read_json, write_json

RESULT_OF_ALL = QuantizingResult(
    modules=(
        RoundedModule(name="layers.0.q_proj", loss=0.5, weight_error=0.1, damp=0.05, tokens=99),
        RoundedModule(name="layers.1.q_proj", loss=0.25, weight_error=0.2, damp=0.05, tokens=99),
    ),
    reload=ReloadCheck(rows=4, difference=1e-4, allowed=1e-2, from_full_precision=0.1),
)


def fake_quantize(scratch: Path, checkpoint: Path, plan: Plan) -> None:
    """As ``quantized_base._quantize``, in no time."""
    del plan
    job = read_job(scratch / JOB)
    shutil.copytree(job.base, checkpoint)
    config = read_json(checkpoint / "config.json")
    block = job.block
    config["quantization_config"] = {
        "quant_method": "gptq", "bits": block.bits, "group_size": block.group_size,
        "desc_act": block.desc_act, "sym": block.sym, "checkpoint_format": "gptq",
        "meta": {"rows": len(job.token_ids), "quantizer": ["gptqmodel:7.6.0"]},
    }  # fmt: skip
    (checkpoint / "config.json").write_text(json.dumps(config))
    write_json(scratch / RESULT, RESULT_OF_ALL.as_json())
