"""Where answers' code is run is said in the recipe, or the data are the quickstart's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.errors import RecipeError
from runner.plan import decisions_of, make_plan
from runner.quickstart_data import code_execution_block, is_quickstart_data
from runner.recipe import CodeExecutionBlock
from runner.recipe_reading.recipe_file import read_recipe
from tests.conftest import ROOT

QUICKSTART = ROOT / "recipes" / "quickstart" / "functions.jsonl"


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    """A recipe whose data are a copy of the quickstart's in another folder."""
    (tmp_path / "mine").mkdir()
    shutil.copy(QUICKSTART, tmp_path / "mine" / "functions.jsonl")
    return {
        "version": 1,
        "name": "code",
        "dataset": {"source": "mine/functions.jsonl", "columns": {"tests": "tests"}},
        "model": {"base": str(ROOT / "recipes" / "quickstart" / "model"), "pad_token": "<unk>"},
        "training": {"max_steps": 1},
        "evaluation": {"generation": [{"name": "answers", "metrics": ["tests_passed"]}]},
    }


def written(recipe: dict[str, Any], folder: Path) -> Path:
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe))
    return path


def told(path: Path) -> list[str]:
    try:
        read_recipe(path, in_place=True)
    except RecipeError as error:
        return [f"{fault.key}: {fault.message}" for fault in error.faults]
    return []


def test_the_quickstart_s_data_are_known_by_their_bytes(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    path = written(recipe, tmp_path)
    assert told(path) == []
    block = code_execution_block(read_recipe(path), tmp_path)
    assert block == CodeExecutionBlock(backend="subprocess")
    decided = decisions_of(make_plan(path, runs=tmp_path / "runs"))
    assert "subprocess (unsafe: limits only)" in " ".join(decided)

    with (tmp_path / "mine" / "functions.jsonl").open("a") as file:
        file.write("\n")
    assert "runs code that a model wrote, and the recipe does not say where" in told(path)[0]
    assert code_execution_block(read_recipe_unchecked(recipe), tmp_path) is None


def read_recipe_unchecked(recipe: dict[str, Any]) -> Any:
    from runner.recipe import Recipe

    return Recipe.model_validate(recipe)


def test_more_data_than_the_quickstart_s_are_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "functions.jsonl").symlink_to(QUICKSTART)
    assert is_quickstart_data("functions.jsonl", tmp_path)
    assert is_quickstart_data(["functions.jsonl"], tmp_path)
    others: list[object] = [
        ["functions.jsonl", "functions.jsonl"],
        [{"path": "functions.jsonl"}],
        "*.jsonl",
        "owner/functions",
        "https://example.org/functions.jsonl",
        "no\0name",
        str(ROOT / "recipes"),
    ]
    assert [source for source in others if is_quickstart_data(source, tmp_path)] == []


def test_a_stored_copy_of_a_recipe_goes_by_the_name(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    stored = written(recipe, tmp_path / "run")
    assert "does not say where" in told(stored)[0]
    assert read_recipe(stored).name == "code"
    recipe["dataset"]["source"] = "mine/others.jsonl"
    with pytest.raises(RecipeError, match="does not say where"):
        read_recipe(written(recipe, tmp_path / "run"))


def test_what_the_recipe_says_is_what_counts(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["evaluation"]["code_execution"] = {"backend": "bubblewrap", "seconds": 9}
    read = read_recipe(written(recipe, tmp_path))
    block = code_execution_block(read, tmp_path)
    assert block == CodeExecutionBlock(backend="bubblewrap", seconds=9)


def test_no_code_is_run_where_no_metric_does(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["evaluation"]["generation"][0]["metrics"] = ["rouge"]
    assert code_execution_block(read_recipe(written(recipe, tmp_path)), tmp_path) is None


def test_a_benchmark_has_data_of_its_own(recipe: dict[str, Any], tmp_path: Path) -> None:
    benchmark = {
        "name": "bench",
        "kind": "generation",
        "dataset": {"source": "other.jsonl", "columns": {"tests": "tests"}},
        "metrics": ["tests_passed"],
    }
    recipe["evaluation"] = {"benchmarks": [benchmark]}
    keys = [fault.partition(": ")[0] for fault in told(written(recipe, tmp_path))]
    assert keys == ["evaluation.benchmarks[0].metrics[0]"]
    (tmp_path / "bench.json").write_text(json.dumps(benchmark))
    recipe["evaluation"] = {"benchmarks": ["bench.json"]}
    found = told(written(recipe, tmp_path))
    assert len(found) == 1 and "tests_passed runs code that a model wrote" in found[0]


def test_a_slip_in_another_key_of_a_task_hides_nothing(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["dataset"]["source"] = "other.jsonl"
    recipe["evaluation"]["generation"][0]["limit"] = -1
    keys = [fault.partition(": ")[0] for fault in told(written(recipe, tmp_path))]
    assert keys == ["evaluation.generation[0].metrics[0]", "evaluation.generation[0].limit"]
