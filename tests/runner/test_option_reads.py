"""An option that nobody reads fails the run; dumping a recipe does not count as reading it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from pydantic import create_model

from runner.base_model.loaded_model import load_model, quiet_libraries
from runner.base_model.model_source import find_model
from runner.base_model.quantization import check_quantization, loading_arguments
from runner.cli import guarded
from runner.digests import digest_of_json
from runner.errors import ExitCode, UsageError
from runner.plan import make_plan
from runner.progress import Progress
from runner.recipe import Lora, Recipe
from runner.recipe.option_reads import (
    LEARNING_BLOCKS,
    READ_ELSEWHERE,
    OptionReads,
    options_of,
)
from runner.run_folder import RunFolder
from runner.stages import evaluation_batch_tokens
from runner.training.step_schedule import count_steps
from runner.training.train_adapter import train_adapter


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(tiny_recipe)


def test_options_are_noted_as_they_are_taken(recipe: Recipe) -> None:
    reads = OptionReads(recipe)
    assert reads.recipe.lora.r == recipe.lora.r
    assert reads.recipe.training.learning_rate == recipe.training.learning_rate
    assert reads.recipe.seed == recipe.seed
    assert reads.seen == {"lora.r", "training.learning_rate"}
    assert "lora.r" not in reads.unread()
    assert "lora.alpha" in reads.unread()
    assert isinstance(reads.recipe.lora, Lora)


def test_dumping_comparing_and_copying_read_nothing(recipe: Recipe) -> None:
    reads = OptionReads(recipe)
    noting = reads.recipe
    assert digest_of_json(noting.model_dump(mode="json")) == digest_of_json(
        recipe.model_dump(mode="json")
    )
    assert noting.model_dump_json() == recipe.model_dump_json()
    for name in LEARNING_BLOCKS:
        block = getattr(noting, name)
        assert dict(block) == dict(getattr(recipe, name))
        assert repr(block).startswith(type(block).__name__)
        assert block == block.model_copy()
        assert block == copy.deepcopy(block)
    assert reads.seen == set()
    assert len(reads.unread()) == len(list(options_of(recipe))) - len(READ_ELSEWHERE)


def with_ghost(recipe: Recipe, block: str) -> Recipe:
    """The recipe as it would be if a field were added to a block and nobody read it."""
    present = getattr(recipe, block)
    grown = create_model(type(present).__name__, __base__=type(present), ghost=(int, 1))
    return recipe.model_copy(update={block: grown.model_validate(present.model_dump())})


def test_a_training_fails_where_options_are_read_by_nobody(recipe: Recipe, tmp_path: Path) -> None:
    """The planted error: a field of each block that no line of the code takes."""
    quiet_libraries()
    source = find_model(recipe.model.base, None, folder=Path("/"))
    ids = list(range(3, 20))
    rows = Dataset.from_list([{"input_ids": ids, "labels": ids}] * 4)
    for block in LEARNING_BLOCKS:
        recipe = with_ghost(recipe, block)
    told: list[str] = []
    code = guarded(
        lambda: train_adapter(
            recipe,
            load_model(recipe, source, device="cpu"),
            rows,
            RunFolder(tmp_path),
            progress=Progress(),
        ),
        tell=told.append,
    )
    assert code == ExitCode.DEFECT
    named = "quantization.ghost, lora.ghost, training.ghost, hardware.ghost"
    assert told[0].startswith(f"{named}: declared as options of a recipe, and read by nothing")
    assert not list((tmp_path / "checkpoints").glob("checkpoint-*"))


GPTQ = {"quantization": {"method": "gptq", "bits": 4}}
ROUNDED = {
    "quantization": {
        **GPTQ["quantization"],
        "group_size": 64,
        "desc_act": False,
        "sym": True,
        "damp": 0.1,
        "calibration": {},
    }
}
LONG = {"training": {"epochs": 2, "batch_size": 4}}


def check_bits(recipe: Recipe) -> None:
    source = find_model(recipe.model.base, None, folder=Path("/"))
    other = replace(source, quantization="gptq", quantization_bits=8)
    with pytest.raises(UsageError, match="quantized to 8 bits"):
        check_quantization(recipe.quantization, other)


def check_rounding(recipe: Recipe) -> None:
    """Against a checkpoint that is rounded in another way."""
    source = find_model(recipe.model.base, None, folder=Path("/"))
    settings = {"group_size": 32, "desc_act": True, "sym": False}
    other = replace(source, quantization="gptq", quantization_settings=settings)
    block = recipe.quantization
    for key in ("group_size", "desc_act", "sym", "damp", "calibration"):
        one = block.model_copy()
        one.model_fields_set.intersection_update({"method", "bits", key})
        with pytest.raises(UsageError, match=f"quantization.{key}"):
            check_quantization(one, other)


def plan(recipe: Recipe) -> None:
    make_plan(Path("recipe.json"), runs=Path("runs"))


# Option -> a recipe in which it matters, and what reads it.
READERS: dict[str, tuple[dict[str, Any], Callable[[Recipe], object]]] = {
    "quantization.method": ({}, lambda recipe: loading_arguments(recipe.quantization, "cpu")),
    "quantization.bits": (GPTQ, check_bits),
    "quantization.kernel": (GPTQ, lambda recipe: loading_arguments(recipe.quantization, "cpu")),
    **{
        f"quantization.{key}": (ROUNDED, check_rounding)
        for key in ("group_size", "desc_act", "sym", "damp", "calibration")
    },
    "training.epochs": (LONG, lambda recipe: count_steps(recipe.training, 10)),
    "hardware.device": ({}, plan),
    "hardware.threads": ({}, plan),
    "hardware.batch_tokens": ({}, lambda recipe: evaluation_batch_tokens(recipe, "cpu")),
}


@pytest.mark.parametrize("option", READ_ELSEWHERE)
def test_what_is_read_elsewhere_is_read_there(
    option: str,
    tiny_recipe: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes, read = READERS[option]
    reads = OptionReads(Recipe.model_validate({**tiny_recipe, **changes}))
    assert option in set(options_of(reads.recipe))
    # For planning, which reads the recipe's file itself.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runner.plan.read_recipe", lambda *_, **__: reads.recipe)
    monkeypatch.setattr("runner.base_model.quantization.checks.require_packages", lambda _: None)
    read(reads.recipe)
    assert option in reads.seen
