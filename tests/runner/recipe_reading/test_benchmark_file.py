"""Benchmark files: their schema, their rules, and recipes that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runner.commands.validate import validate
from runner.errors import ExitCode, RecipeError
from runner.recipe import Benchmark
from runner.recipe_reading.benchmark_file import (
    benchmark_faults,
    is_benchmark,
    read_benchmark,
)
from runner.recipe_reading.benchmark_rules import BENCHMARK_RULES
from runner.recipe_reading.document import SUFFIXES, parse_document, read_document
from runner.recipe_reading.recipe_file import read_recipe, recipe_faults
from runner.recipe_reading.recipe_schema import (
    BENCHMARK_SCHEMA_FILE,
    published_schema,
    schema_text,
)

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "tests" / "examples" / "benchmarks"
RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "dataset": {"source": "rows.jsonl"},
    "model": {"base": "models/tiny"},
    "training": {"max_steps": 1},
}
GOOD = "name: quiz\ndataset: {source: rows.jsonl}\nmetrics: [exact_match]\n"


def _files(folder: str) -> list[Path]:
    return sorted(path for path in (EXAMPLES / folder).iterdir() if path.suffix in SUFFIXES)


@pytest.mark.parametrize("path", _files("invalid"), ids=lambda path: path.name)
def test_an_invalid_benchmark_gives_exactly_the_expected_faults(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(RecipeError) as raised:
        read_benchmark(Path(path.name))
    expected = path.with_suffix(".expected.txt").read_text(encoding="utf-8")
    assert f"{raised.value}\n" == expected


@pytest.mark.parametrize("path", _files("valid"), ids=lambda path: path.name)
def test_a_valid_benchmark_is_read(path: Path) -> None:
    assert isinstance(read_benchmark(path), Benchmark)


def test_every_key_is_in_the_example() -> None:
    given = read_document(EXAMPLES / "valid" / "every-key.yaml").value
    assert given.keys() == set(Benchmark.model_fields)


def test_every_rule_is_broken_by_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule in BENCHMARK_RULES:
        others = tuple(other for other in BENCHMARK_RULES if other is not rule)
        name = "runner.recipe_reading.benchmark_rules.BENCHMARK_RULES"
        with monkeypatch.context() as without:
            documents = [read_document(path) for path in _files("invalid")]
            before = [benchmark_faults(document) for document in documents]
            without.setattr(name, others)
            assert [benchmark_faults(d) for d in documents] != before, rule.__name__


def test_the_committed_schema_is_that_of_the_models() -> None:
    committed = (ROOT / "recipes" / BENCHMARK_SCHEMA_FILE).read_text(encoding="utf-8")
    assert schema_text(BENCHMARK_SCHEMA_FILE) == committed
    Draft202012Validator.check_schema(published_schema(BENCHMARK_SCHEMA_FILE))


@pytest.mark.parametrize("path", _files("valid"), ids=lambda path: path.name)
def test_an_editor_agrees_about_the_valid_ones(path: Path) -> None:
    schema = published_schema(BENCHMARK_SCHEMA_FILE)
    assert list(Draft202012Validator(schema).iter_errors(read_document(path).value)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, True),
        ("name: a\ndataset: {source: x}\nkind: multiple_choice\n", True),
        ("$schema: ../benchmark.schema.json\nname: a\n", True),
        ("name: a\ndataset: {source: x}\nmodel: {base: b}\nmetrics: [rouge]\n", False),
        ("version: 1\nname: a\ndataset: {source: x}\n", False),
        ("name: a\ndataset: {source: x}\n", False),
    ],
)
def test_what_is_taken_for_a_benchmark(text: str, expected: bool) -> None:
    assert is_benchmark(parse_document(text, suffix=".yaml", file="x")) == expected


def test_validate_takes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quiz.yaml").write_text(GOOD, encoding="utf-8")
    assert validate([tmp_path / "quiz.yaml"]) == ExitCode.PASS
    assert capsys.readouterr().out.endswith("quiz.yaml: valid (a benchmark)\n")


# Named by a recipe


def _recipe(folder: Path, *benchmarks: Any, gate: str | None = None) -> Path:
    gates = [{"metric": gate, "claim": "superior"}] if gate else []
    recipe = {**RECIPE, "evaluation": {"benchmarks": benchmarks}, "gates": gates}
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe, indent=1), encoding="utf-8")
    return path


def _faults(path: Path) -> str:
    faults = recipe_faults(read_document(path), in_place=True)
    return "\n".join(str(fault).replace(f"{path.parent}/", "") for fault in faults)


def test_faults_of_a_named_file_are_told_in_that_file(tmp_path: Path) -> None:
    (tmp_path / "quiz.yaml").write_text(f"{GOOD}limit: -1\nfew_shot: {{count: x}}\n")
    assert _faults(_recipe(tmp_path, "quiz.yaml", gate="quiz.exact_match")) == (
        "quiz.yaml:4:8: limit: -1 is less than the minimum 1\n"
        "quiz.yaml:5:19: few_shot.count: 'x' is not a whole number"
    )


def test_a_file_that_is_missing_is_told_in_the_recipe(tmp_path: Path) -> None:
    path = _recipe(tmp_path, "quiz.yaml", gate="quiz.exact_match")
    assert _faults(path) == (
        "recipe.json:15:4: evaluation.benchmarks[0]: there is no such file (looked for quiz.yaml)"
    )
    # A copy that is stored with a run has no benchmarks beside it.
    assert read_recipe(path).evaluation.benchmarks == ("quiz.yaml",)


def test_gates_know_the_figures_of_a_named_file(tmp_path: Path) -> None:
    (tmp_path / "quiz.yaml").write_text(GOOD, encoding="utf-8")
    assert _faults(_recipe(tmp_path, "quiz.yaml", gate="quiz.exact_match")) == ""
    assert _faults(_recipe(tmp_path, "quiz.yaml", gate="quiz.clean.exact_match")) == ""
    told = _faults(_recipe(tmp_path, "quiz.yaml", gate="quiz.exact_mach"))
    assert "gates[0].metric: 'quiz.exact_mach' is not measured" in told
    assert "Did you mean quiz.exact_match?" in told


def test_gates_know_the_figures_of_multiple_choice(tmp_path: Path) -> None:
    choices = {"texts": ["a", "b"], "gold": "g"}
    block = {
        "name": "mc", "kind": "multiple_choice", "dataset": {"source": "x.jsonl"},
        "choices": choices, "leaks": "ignore",
    }  # fmt: skip
    assert _faults(_recipe(tmp_path, block, gate="mc.accuracy_per_byte")) == ""
    assert "is not measured" in _faults(_recipe(tmp_path, block, gate="mc.exact_match"))
    told = _faults(_recipe(tmp_path, block, gate="mc.clean.accuracy"))
    assert told.endswith(
        "which rows of mc are clean is not known with leaks: ignore. Write leaks: warn there."
    )


def test_names_are_told_apart_across_files_and_tasks(tmp_path: Path) -> None:
    (tmp_path / "quiz.yaml").write_text(GOOD, encoding="utf-8")
    block = {"name": "Quiz", "dataset": {"source": "x.jsonl"}, "metrics": ["rouge"]}
    told = _faults(_recipe(tmp_path, "quiz.yaml", block))
    assert told.endswith("Quiz is also the name of benchmarks[0]. Give each its own.")
    assert "loss is taken" in _faults(_recipe(tmp_path, {**block, "name": "loss"}))


def test_faults_of_one_that_is_written_in_the_recipe_are_told_there(tmp_path: Path) -> None:
    block = {"name": "inline", "dataset": {"source": "x.jsonl"}, "metrics": ["rogue"]}
    assert _faults(_recipe(tmp_path, block)).startswith(
        "recipe.json:21:6: evaluation.benchmarks[0].metrics[0]: 'rogue' is not a metric."
    )


def test_figures_of_lm_eval_tasks_are_known_when_they_are_run(tmp_path: Path) -> None:
    recipe = {
        **RECIPE,
        "evaluation": {"lm_eval": {"tasks": ["mmlu"]}},
        "gates": [{"metric": "mmlu_anatomy.acc", "claim": "superior"}],
    }
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    assert _faults(path) == ""
    recipe["gates"] = [{"metric": "arc.acc", "claim": "superior"}]
    path.write_text(json.dumps(recipe))
    assert "'arc.acc' is not measured" in _faults(path)
