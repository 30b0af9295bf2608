"""The whole path on a CUDA device; `make test-gpu`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.cli import guarded
from runner.commands.run import run
from runner.run_folder import open_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_run_on_the_gpu(
    dtype: str, tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    tiny_recipe["hardware"] = {"device": "cuda"}
    tiny_recipe["model"]["dtype"] = dtype
    tiny_recipe["training"]["max_steps"] = 40
    path = write_recipe(tiny_recipe)
    code = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    folder = open_run(tmp_path / "runs" / "tiny")
    assert code in (0, 3)  # carried out and judged; what it is worth is not the point here
    assert json.loads(folder.lock.read_text())["hardware"]["device"] == "cuda"
    history = json.loads(folder.training.read_text())["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    reload = json.loads((folder.path / "reload.json").read_text())
    assert reload["base_rows_repeated"] > 0


def test_checkpointed_activations_train_on_the_gpu(
    tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    tiny_recipe["hardware"] = {"device": "cuda", "activation_checkpointing": True}
    tiny_recipe["model"]["dtype"] = "bfloat16"
    path = write_recipe(tiny_recipe)
    code = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    assert code in (0, 3)
