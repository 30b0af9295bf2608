"""An adapter is bound to the weights that it was trained on; on others it is refused or noted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from runner.base_model.base_weights import weights_digest
from runner.base_model.model_source import local_model
from runner.cli import guarded
from runner.commands.eval import evaluate
from runner.errors import ExitCode
from runner.recipe import Quantization
from runner.run_folder import RunFolder
from runner.stored_json import read_json
from runner.training.adapter_files import BASE_WEIGHTS, WEIGHTS, bound_to
from tests.runner.conftest import released_recipe

PLAIN = Quantization()


def digest(folder: Path, block: Quantization = PLAIN) -> str:
    return weights_digest(local_model("any", folder), block)


@pytest.fixture
def other_model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """The base model with another last norm: whatever else is compared is the same."""
    folder = tmp_path / "other-model"
    shutil.copytree(tiny_model_folder, folder)
    tensors = load_file(str(folder / "model.safetensors"))
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 1.5
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder


@pytest.fixture
def judge(tmp_path: Path) -> Any:
    rows = [{"instruction": f"Add {n} to x.", "input": "", "output": f"x + {n}"} for n in range(60)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))

    def run(adapter: Path, base: Path, **given: Any) -> int:
        recipe = tmp_path / "shipped.json"
        recipe.write_text(json.dumps(released_recipe(base)))
        runs = tmp_path / "runs"
        return guarded(
            lambda: evaluate(str(adapter), recipe=str(recipe), runs=runs, device=None, **given)
        )

    return run


def test_the_digest_is_about_weights_alone(
    tiny_model_folder: Path, other_model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "renamed"
    shutil.copytree(tiny_model_folder, copy)
    (copy / "model.safetensors").rename(copy / "weights.safetensors")
    (copy / "tokenizer_config.json").write_text("{}")
    assert digest(copy) == digest(tiny_model_folder) != digest(other_model)


def test_the_digest_knows_how_weights_are_rounded(tiny_model_folder: Path, tmp_path: Path) -> None:
    nf4 = Quantization(method="bitsandbytes", bits=4)
    int8 = Quantization(method="bitsandbytes", bits=8)
    digests = {digest(tiny_model_folder, block) for block in (PLAIN, nf4, int8)}
    labelled = tmp_path / "labelled"
    for kind in ("gptq", "gptq_v2"):
        shutil.copytree(tiny_model_folder, labelled)
        settings = {"quant_method": "gptq", "bits": 4, "checkpoint_format": kind}
        config = read_json(labelled / "config.json")
        (labelled / "config.json").write_text(
            json.dumps({**config, "quantization_config": settings})
        )
        digests.add(digest(labelled, Quantization(method="gptq", bits=4)))
        shutil.rmtree(labelled)
    assert len(digests) == 5


def test_a_run_binds_its_adapter_without_touching_its_tensors(
    released_run: RunFolder, tiny_model_folder: Path
) -> None:
    file = released_run.adapter / WEIGHTS
    assert bound_to(file) == digest(tiny_model_folder)
    assert all(bool(t.isfinite().all()) for t in load_file(str(file)).values())
    start = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert start % 8 == 0  # safetensors: the data are aligned
    assert list(json.loads(file.read_bytes()[8:start])["__metadata__"]) == ["format", BASE_WEIGHTS]


@pytest.mark.slow
def test_on_its_own_weights_it_is_judged_wherever_they_lie(
    released_run: RunFolder, tiny_model_folder: Path, tmp_path: Path, judge: Any
) -> None:
    shutil.copytree(tiny_model_folder, tmp_path / "moved")
    assert judge(released_run.release, tmp_path / "moved") == ExitCode.PASS


@pytest.mark.slow
def test_on_other_weights_it_is_refused_unless_forced(
    released_run: RunFolder, other_model: Path, tmp_path: Path, judge: Any, capsys: Any
) -> None:
    assert judge(released_run.adapter, other_model) == ExitCode.RECIPE
    message = " ".join(capsys.readouterr().err.split())
    assert "the adapter adapter was trained on other base weights (" in message
    assert "or say --other-base" in message
    judge(released_run.adapter, other_model, other_base=True)
    (folder,) = map(RunFolder, (tmp_path / "runs" / "shipped").glob("eval-*"))
    assert folder.verdict.is_file()
    (note,) = [one for one in read_json(folder.lock)["decisions"] if "--other-base" in one]
    assert note in read_json(folder.target)["notes"]


def test_an_adapter_of_others_is_bound_to_nothing(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, str(tmp_path / WEIGHTS))
    assert bound_to(tmp_path / WEIGHTS) is None
