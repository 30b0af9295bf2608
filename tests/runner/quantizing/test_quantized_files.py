"""The checkpoint that is kept is the base's own but for weights and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import DefectError
from runner.quantizing.quantized_files import finish_files
from runner.quantizing.quantizing_job import QuantizingJob, read_job
from runner.recipe import Quantization
from tests.runner.tiny_data import make_recipe

SETTINGS = {
    "bits": 4, "group_size": 32, "desc_act": False, "sym": True, "checkpoint_format": "gptq",
    "quant_method": "gptq",
}  # fmt: skip


@pytest.fixture
def job(tiny_model_folder: Path) -> QuantizingJob:
    block = Quantization(method="gptq", bits=4, group_size=32)
    recipe = make_recipe().model_copy(update={"quantization": block})
    return QuantizingJob(
        recipe=recipe, base=str(tiny_model_folder), token_ids=((1, 2), (3,)), dtype="float32",
        device="cpu", threads=1,
    )  # fmt: skip


def saved(folder: Path, **settings: Any) -> Path:
    """What gptqmodel leaves."""
    folder.mkdir()
    stated = {**SETTINGS, **settings}
    (folder / "config.json").write_text(json.dumps({"quantization_config": stated}))
    (folder / "quantize_config.json").write_text(json.dumps(stated))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "quant_log.csv").write_text("layer,module,loss,samples,damp,time\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BackendFast"}')
    return folder


def test_the_base_s_own_files_replace_what_gptqmodel_made_of_them(
    tmp_path: Path, job: QuantizingJob
) -> None:
    folder, base = saved(tmp_path / "made"), Path(job.base)
    finish_files(job, folder)
    assert {path.name for path in folder.iterdir()} == {
        *(path.name for path in base.iterdir()), "quantize_config.json",
    }  # fmt: skip
    for name in ("tokenizer_config.json", "tokenizer.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes()
    assert (folder / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "planted",
    [
        {"dataset": ["a row of train"]},
        {"bits": 8},
        {"group_size": 128},
        {"sym": False},
        {"desc_act": True},
        {"checkpoint_format": "gptq_v2"},
    ],
    ids=str,
)
def test_settings_that_were_not_asked_for_are_a_defect(
    planted: dict[str, Any], tmp_path: Path, job: QuantizingJob
) -> None:
    with pytest.raises(DefectError, match=next(iter(planted))):
        finish_files(job, saved(tmp_path / "made", **planted))


def test_a_job_is_the_same_in_the_process_that_does_it(tmp_path: Path, job: QuantizingJob) -> None:
    job.write(tmp_path / "job.json")
    assert read_job(tmp_path / "job.json") == job
