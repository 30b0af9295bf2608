"""The models of a recipe: frozen, closed, and the same after a round trip through a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from runner.recipe import Dataset, Lora, Partition, Recipe, Source, Training
from runner.recipe_reading.document import parse_document
from runner.recipe_reading.recipe_file import read_recipe, recipe_faults
from runner.recipe_reading.recipe_schema import published_schema, resolve

ROOT = Path(__file__).parents[2]
FULL = ROOT / "recipes" / "mistral-7b-gptq-code.yaml"


def _small(**blocks: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "small",
        "dataset": {"source": "data/train.jsonl"},
        "model": {"base": "models/tiny"},
        "training": {"max_steps": 100},
        **blocks,
    }


def test_a_recipe_is_frozen() -> None:
    recipe = Recipe.model_validate(_small())
    with pytest.raises(ValidationError):
        recipe.seed = 7  # type: ignore[misc]


def test_numbers_are_not_made_of_text_or_truth() -> None:
    assert Training(max_steps=100.0).max_steps == 100  # type: ignore[arg-type]
    for value in ("100", True, 1.5):
        with pytest.raises(ValidationError):
            Training(max_steps=value)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Lora(dropout="0.5")  # type: ignore[arg-type]


def test_sources_are_one_or_several() -> None:
    assert Dataset(source="a.jsonl").sources == (Source(path="a.jsonl"),)
    block = Source(path="b.jsonl", weight=2, partition="test")
    assert Dataset(source=("a.jsonl", block)).sources == (Source(path="a.jsonl"), block)


def test_partitions_are_those_of_the_shares_and_of_the_sources() -> None:
    rest = Partition(train=0.9, validation=0.1, test=0)
    held_out = Source(path="b.jsonl", partition="test")
    assert Dataset(source="a", partition=rest).partition_names == ("train", "validation")
    mixed = Dataset(source=("a", held_out), partition=rest)
    assert mixed.partition_names == ("train", "validation", "test")
    assert Dataset(source=(held_out,), partition=rest).partition_names == ("test",)


def test_the_full_recipe_is_what_the_notebook_did() -> None:
    recipe = read_recipe(FULL)
    assert recipe.lora.target_modules == ("q_proj", "v_proj")
    assert recipe.training.learning_rate == 3e-4
    assert recipe.training.optimizer == "paged_adamw_32bit"
    assert recipe.training.neftune_alpha == 5
    assert recipe.quantization.bits == 4
    assert recipe.template.user == " {{ instruction }} Here are the inputs {{ input }} "
    assert [gate.claim for gate in recipe.gates] == ["superior", "non_inferior", "ceiling"]
    assert recipe.evaluation.generation[0].decoding.temperature == 0.2


def test_the_full_recipe_names_every_block() -> None:
    document = parse_document(FULL.read_text(encoding="utf-8"), suffix=".yaml", file="x")
    assert set(document.value) == set(published_schema()["properties"]) - {"$schema", "hardware"}


# Every generated recipe survives dump -> read


def _values(node: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a property's schema allows: examples, default, and what its range has."""
    inner = resolve(node, published_schema())
    if "properties" in inner:
        return _block(inner)
    known = st.sampled_from([*node["examples"], *([node["default"]] if "default" in node else [])])
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if node.get("type") == "integer" and "minimum" in node:
        return known | st.integers(node["minimum"], node["maximum"])
    if node.get("type") == "number" and "minimum" in node and "maximum" in node:
        return known | st.floats(node["minimum"], node["maximum"])
    if node.get("type") == "string" and "pattern" not in node and "{" not in str(node):
        return known | st.text(min_size=1)
    return known


def _block(block: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    required = set(block.get("required", ()))
    properties = {key: _values(node) for key, node in block["properties"].items() if key[0] != "$"}
    return st.fixed_dictionaries(
        {key: values for key, values in properties.items() if key in required},
        optional={key: values for key, values in properties.items() if key not in required},
    )


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(_block(published_schema()))
def test_a_recipe_survives_a_file(tmp_path_factory: pytest.TempPathFactory, given_: Any) -> None:
    recipe = Recipe.model_validate(given_)
    dumped = recipe.model_dump(mode="json")
    text = json.dumps(dumped)
    # JSON in flow style is YAML, save that YAML writes one escape for a character beyond U+FFFF.
    for suffix in (".json",) if "\\ud" in text else (".json", ".yaml"):
        document = parse_document(text, suffix=suffix, file="x")
        assert Recipe.model_validate(document.value) == recipe


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(_block(published_schema()))
def test_what_validate_accepts_is_read(given_: Any) -> None:
    document = parse_document(json.dumps(given_), suffix=".json", file="x")
    if not recipe_faults(document):
        Recipe.model_validate(document.value)


def test_every_model_is_closed_and_frozen() -> None:
    def blocks(model: type[BaseModel]) -> set[type[BaseModel]]:
        return {model, *(inner for child in model.__subclasses__() for inner in blocks(child))}

    import runner.recipe as module

    for model in blocks(module.Block):
        assert model.model_config["frozen"]
        assert model.model_config["extra"] == "forbid"
