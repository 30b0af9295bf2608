"""Every recipe under tests/examples: adding a file there adds a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.errors import RecipeError
from runner.recipe_reading.document import SUFFIXES, read_document
from runner.recipe_reading.finding import Finding
from runner.recipe_reading.learning_rules import LEARNING_RULES
from runner.recipe_reading.recipe_file import read_recipe
from runner.recipe_reading.recipe_rules import EVALUATION_RULES, GATE_RULES, TASK_RULES, _decided
from runner.recipe_reading.recipe_view import RecipeView
from runner.recipe_reading.schema_findings import schema_findings

EXAMPLES = Path(__file__).parents[2] / "examples"


def _recipes(folder: str) -> list[Path]:
    return sorted(path for path in (EXAMPLES / folder).iterdir() if path.suffix in SUFFIXES)


def _expected(path: Path) -> Path:
    return path.with_suffix(".expected.txt")


def test_there_are_enough_examples() -> None:
    assert len(_recipes("invalid")) >= 45
    assert len(_recipes("valid")) >= 6


def test_every_expected_text_has_its_recipe() -> None:
    texts = set((EXAMPLES / "invalid").glob("*.txt"))
    assert texts == {_expected(path) for path in _recipes("invalid")}


@pytest.mark.parametrize("path", _recipes("invalid"), ids=lambda path: path.name)
def test_an_invalid_recipe_gives_exactly_the_expected_faults(path: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        read_recipe(path, shown=path.name)
    assert f"{raised.value}\n" == _expected(path).read_text(encoding="utf-8")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("path", _recipes("invalid"), ids=lambda path: path.name)
def test_faults_point_into_the_file_and_hide_no_library(path: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        read_recipe(path)
    lines = path.read_bytes().decode("utf-8", "replace").splitlines() or [""]
    for fault in raised.value.faults:
        assert 1 <= fault.line <= len(lines)
        assert 1 <= fault.column <= len(lines[fault.line - 1]) + 1
        for noise in ("anyOf", "jsonschema", "pydantic", "Traceback", "is not valid under"):
            assert noise not in fault.message


@pytest.mark.parametrize(
    "rule", [*LEARNING_RULES, *EVALUATION_RULES, *TASK_RULES, *GATE_RULES], ids=lambda r: r.__name__
)
def test_every_rule_is_broken_by_some_example(rule: Callable[..., Iterator[Finding]]) -> None:
    assert any(_breaks(rule, path) for path in _recipes("invalid"))


def _breaks(rule: Callable[..., Iterator[Finding]], path: Path) -> bool:
    try:
        document = read_document(path)
    except RecipeError:
        return False
    view = RecipeView.of(document, schema_findings(document))
    items = dict.fromkeys(TASK_RULES, "evaluation.generation")
    items |= dict.fromkeys(GATE_RULES, "gates")
    if rule not in items:
        return bool(_decided(rule(view)))
    indices = view.indices(*items[rule].split("."))
    return any(_decided(rule(view, index)) for index in indices)


@pytest.mark.parametrize("path", _recipes("valid"), ids=lambda path: path.name)
def test_a_valid_recipe_is_read(path: Path) -> None:
    recipe = read_recipe(path)
    twins = [read_recipe(twin) for twin in _recipes("valid") if twin.stem == path.stem]
    assert all(twin == recipe for twin in twins)


def test_yaml_and_json_twins_are_among_the_valid() -> None:
    stems = [path.stem for path in _recipes("valid")]
    assert len(stems) - len(set(stems)) >= 2
