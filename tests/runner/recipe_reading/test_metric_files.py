"""Files that metrics name: looked for where a recipe is, and not beside a stored copy of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.commands.metric_specs import extraction_of, extraction_of_references, metric_specs
from runner.commands.validate import check_file
from runner.errors import RecipeError
from runner.metric_files import metric_identities
from runner.recipe import Recipe
from runner.recipe_reading.recipe_file import read_recipe

RECIPE = """
version: 1
name: small
dataset: {source: data/train.jsonl}
model: {base: models/tiny}
training: {max_steps: 100}
evaluation:
  generation:
    - name: answers
      extract: {after: so, regex: "([0-9]+)", reference: {preset: last_number}}
      metrics:
        - rouge
        - {name: chrf, as: words, word_order: 2}
        - {name: json_schema, schema: schemas/answer.json}
        - {file: "metrics/mine.py:Mine", options: {unit: 2}}
        - {name: "hub:./metrics/wer", figure: wer}
"""
MINE = "class Mine:\n    pass\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with all the files that its metrics name."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "answer.json").write_text('{"type": "object"}')
    (tmp_path / "metrics" / "wer").mkdir(parents=True)
    (tmp_path / "metrics" / "mine.py").write_text(MINE)
    (tmp_path / "metrics" / "wer" / "wer.py").write_text("import evaluate\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.lstrip())
    return path


def told(path: Path) -> list[str]:
    return [
        f"{fault.line}:{fault.column}: {fault.message.replace(f'{path.parent}/', '')}"
        for fault in check_file(path)[0]
    ]


def test_files_that_are_there_are_no_fault(recipe: Path) -> None:
    assert told(recipe) == []


def test_missing_files_are_faults_with_their_line(recipe: Path) -> None:
    for file in ("schemas/answer.json", "metrics/mine.py", "metrics/wer/wer.py"):
        (recipe.parent / file).unlink()
    (recipe.parent / "metrics" / "wer").rmdir()
    assert told(recipe) == [
        "13:39: there is no such file (looked for schemas/answer.json)",
        "14:18: there is no such file (looked for metrics/mine.py)",
        "15:18: there is no such file (looked for metrics/wer)",
    ]


def test_a_stored_copy_is_read_without_the_files(recipe: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "recipe.yaml"
    copy.parent.mkdir()
    copy.write_text(recipe.read_text())
    assert read_recipe(copy) == read_recipe(recipe)
    with pytest.raises(RecipeError, match="there is no such file"):
        read_recipe(copy, in_place=True)


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("schemas/answer.json", "{", "13:39: answer.json is not JSON: Expecting property name"),
        ("schemas/answer.json", "[]", "13:39: answer.json is no JSON Schema: that is an object"),
        (
            "schemas/answer.json",
            '{"properties": {"a": {"type": 3}}}',
            "13:39: answer.json at /properties/a/type: this is no JSON Schema: 3 is not allowed",
        ),
        (
            "schemas/answer.json",
            '{"items": {"$ref": "other.json"}}',
            "13:39: answer.json at /items/$ref: this refers to other.json, and schemas are not",
        ),
        ("metrics/mine.py", "def f(:", "14:18: metrics/mine.py is not Python: invalid syntax"),
        (
            "metrics/mine.py",
            "class Mime: pass",
            "14:18: metrics/mine.py has no class Mine. Did you mean Mime?",
        ),
        ("metrics/mine.py", "x = 1", "14:18: metrics/mine.py has no class Mine. It has no class."),
    ],
)
def test_files_that_hold_something_else(recipe: Path, file: str, content: str, fault: str) -> None:
    (recipe.parent / file).write_text(content)
    (found,) = told(recipe)
    assert found.startswith(fault)


def test_no_file_is_run(recipe: Path) -> None:
    (recipe.parent / "metrics" / "mine.py").write_text(f"{MINE}raise SystemExit(1)\n")
    assert told(recipe) == []


def test_a_recipe_becomes_the_suites_records(recipe: Path) -> None:
    task = read_recipe(recipe).evaluation.generation[0]
    rouge, words, schema, mine, wer = metric_specs(task.metrics, recipe.parent)
    assert (rouge.name, dict(rouge.options)) == ("rouge", {})
    assert (words.label, dict(words.options)) == ("words", {"word_order": 2, "lowercase": False})
    assert schema.options == {"schema": {"type": "object"}}
    assert (mine.name, mine.file) == ("Mine", recipe.parent / "metrics" / "mine.py")
    assert mine.options == {"unit": 2}
    assert wer.name == f"hub:{recipe.parent / 'metrics' / 'wer'}"
    assert wer.label == "wer"
    answers, references = extraction_of(task.extract), extraction_of_references(task.extract)
    assert answers is not None and references is not None
    assert (answers.after, answers.regex, answers.preset) == ("so", "([0-9]+)", None)
    assert references.preset == "last_number"


def test_what_metrics_are_made_of_is_part_of_an_evaluation(recipe: Path) -> None:
    metrics = read_recipe(recipe).evaluation.generation[0].metrics

    def identities() -> dict[str, str]:
        return metric_identities(metrics, recipe.parent)

    before = identities()
    assert list(before) == ["schemas/answer.json", "metrics/mine.py", "hub:./metrics/wer"]
    for name, file in zip(
        before, ("schemas/answer.json", "metrics/mine.py", "metrics/wer/wer.py"), strict=True
    ):
        path = recipe.parent / file
        path.write_text(f"{path.read_text()}\n")
        after = identities()
        assert {n for n in before if before[n] != after[n]} == {name}
        before = after


def test_a_stored_recipe_with_options_is_a_recipe_again(recipe: Path) -> None:
    read = read_recipe(recipe)
    again = Recipe.model_validate_json(json.dumps(read.model_dump(mode="json")))
    assert again == read
    assert (
        read.model_dump(mode="json")["evaluation"]["generation"][0]["metrics"][1]["as"] == "words"
    )
