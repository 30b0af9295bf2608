"""A checkpoint counts only if, read back, it gives the logits of the weights it was made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from runner.errors import DefectError
from runner.quantizing.quantizing_job import QuantizingJob
from runner.quantizing.reload_check import ALLOWED, check_checkpoint
from tests.runner.tiny_data import make_recipe

NAME = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def job(tiny_model_folder: Path) -> QuantizingJob:
    recipe = make_recipe()
    model = recipe.model.model_copy(update={"dtype": "float32", "pad_token": None})
    rows = tuple(tuple(range(n, n + 20)) for n in (3, 40, 80))
    return QuantizingJob(
        recipe=recipe.model_copy(update={"model": model}), base=str(tiny_model_folder),
        token_ids=rows, dtype="float32", device="cpu", threads=1,
    )  # fmt: skip


def saved(job: QuantizingJob, folder: Path, weight: torch.Tensor) -> Path:
    """The base with another weight, as a checkpoint."""
    shutil.copytree(job.base, folder)
    tensors = load_file(str(folder / "model.safetensors"))
    tensors[f"{NAME}.weight"] = weight
    save_file(tensors, str(folder / "model.safetensors"), {"format": "pt"})
    return folder


def weight_of(job: QuantizingJob) -> torch.Tensor:
    return load_file(str(Path(job.base) / "model.safetensors"))[f"{NAME}.weight"]


def test_the_weights_that_were_decided_on_pass(job: QuantizingJob, tmp_path: Path) -> None:
    weight = weight_of(job) * 3
    check = check_checkpoint(job, {NAME: weight}, saved(job, tmp_path / "made", weight))
    assert check.difference < 1e-5 < check.from_full_precision
    assert (check.rows, check.allowed) == (3, ALLOWED["float32"])


@pytest.mark.parametrize("fault", ["another weight", "not a number"])
def test_a_checkpoint_that_says_something_else_is_refused(
    fault: str, job: QuantizingJob, tmp_path: Path
) -> None:
    weight = weight_of(job) * 40
    wrong = weight.flip(0) if fault == "another weight" else torch.full_like(weight, torch.nan)
    with pytest.raises(DefectError, match="does not give the logits of the weights"):
        check_checkpoint(job, {NAME: weight}, saved(job, tmp_path / "made", wrong))


def relabel(config: Path) -> None:
    values = json.loads(config.read_text())
    values["quantization_config"].update(checkpoint_format="gptq_v2", format="gptq_v2")
    config.write_text(json.dumps(values))


@pytest.mark.slow
def test_a_checkpoint_labelled_with_the_other_format_is_refused(
    job: QuantizingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap T2: zero points of ``gptq`` read as those of ``gptq_v2``, without a word."""
    pytest.importorskip("gptqmodel", reason="the extra gptq is not installed")
    pytest.importorskip("optimum", reason="the extra gptq is not installed")
    from runner.quantizing.gptq_rounding import round_weights
    from runner.quantizing.quantized_files import finish_files
    from runner.recipe import Quantization

    monkeypatch.chdir(tmp_path)  # gptqmodel leaves log files
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    block = Quantization(method="gptq", bits=4, group_size=32)
    recipe = job.recipe.model_copy(update={"quantization": block})
    gptq = QuantizingJob(
        recipe=recipe, base=job.base, token_ids=job.token_ids, dtype="float32", device="cpu",
        threads=1,
    )  # fmt: skip
    layers: list[tuple[int, int]] = []
    made = round_weights(gptq, tmp_path / "made", lambda *done: layers.append(done))
    finish_files(gptq, tmp_path / "made")
    assert layers == [(1, 2), (2, 2)]
    assert len(made.modules) == 2 * 7
    check_checkpoint(gptq, made.weights, tmp_path / "made")
    relabel(tmp_path / "made" / "config.json")
    with pytest.raises(DefectError, match="does not give the logits of the weights"):
        check_checkpoint(gptq, made.weights, tmp_path / "made")
