"""On a base of bitsandbytes too the adapter is learned in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from runner.base_model.loaded_model import load_model, quiet_libraries
from runner.base_model.model_source import find_model
from runner.errors import DefectError
from runner.progress import Progress
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.training.adapter_precision import adapter_precision
from runner.training.lora import attach_adapter, trainable_tensors
from runner.training.train_adapter import train_adapter


def types_trained_in(document: dict[str, Any], folder: Path, flag: str) -> set[torch.dtype]:
    quiet_libraries()
    recipe = Recipe.model_validate(document)
    loaded = load_model(recipe, find_model(recipe.model.base, None, folder=Path("/")), device="cpu")
    setattr(loaded.model, flag, True)  # as transformers marks a base of bitsandbytes
    ids = list(range(3, 20))
    rows = Dataset.from_list([{"input_ids": ids, "labels": ids}] * 4)
    found: set[torch.dtype] = set()

    def look(task: Any, _trainer: Any) -> None:
        found.update(tensor.dtype for tensor in trainable_tensors(task.model).values())
        assert getattr(loaded.model, flag) is True

    train_adapter(recipe, loaded, rows, RunFolder(folder), progress=Progress(), inspect=look)
    return found


@pytest.mark.parametrize("flag", ["is_loaded_in_4bit", "is_loaded_in_8bit"])
def test_the_adapter_stays_in_float32(
    flag: str, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    tiny_recipe["training"] |= {"max_steps": 1, "validate_every": None}
    assert types_trained_in(tiny_recipe, tmp_path, flag) == {torch.float32}


def test_a_trainer_that_changes_a_type_all_the_same_is_told(tiny_recipe: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(tiny_recipe)
    source = find_model(recipe.model.base, None, folder=Path("/"))
    model = attach_adapter(load_model(recipe, source, device="cpu").model, recipe.lora, seed=0)
    with (
        pytest.raises(DefectError, match="changed the type of what is learned"),
        adapter_precision(model),
    ):
        for tensor in trainable_tensors(model).values():
            tensor.data = tensor.data.to(torch.bfloat16)
