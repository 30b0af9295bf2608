"""The published JSON Schema: equal to the models, and kind to an editor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft202012Validator

from runner.recipe import Recipe
from runner.recipe_reading import schema_findings
from runner.recipe_reading.recipe_schema import METASCHEMA, published_schema, resolve, schema_text
from runner.recipe_reading.value_text import show_allowed

COMMITTED = Path(__file__).parents[3] / "recipes" / "recipe.schema.json"


def _blocks() -> dict[str, dict[str, Any]]:
    schema = published_schema()
    return {"Recipe": schema, **schema["$defs"]}


def _properties() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    for name, block in _blocks().items():
        for key, node in block["properties"].items():
            yield name, key, node, block
            for inner, child in node.get("items", {}).get("properties", {}).items():
                yield f"{name}.{key}", inner, child, node["items"]


def test_the_committed_schema_is_the_one_of_the_models() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == schema_text(), (
        "run: proofbox schema > recipes/recipe.schema.json"
    )


def test_the_packaged_schema_is_the_committed_one() -> None:
    assert published_schema() == json.loads(COMMITTED.read_text(encoding="utf-8"))


def test_it_is_a_schema_of_draft_2020_12() -> None:
    assert published_schema()["$schema"] == METASCHEMA
    Draft202012Validator.check_schema(published_schema())


def test_no_block_takes_unknown_keys() -> None:
    assert all(block["additionalProperties"] is False for block in _blocks().values())


@pytest.mark.parametrize(("block", "key", "node", "around"), list(_properties()))
def test_every_property_explains_itself(
    block: str, key: str, node: dict[str, Any], around: dict[str, Any]
) -> None:
    assert node["description"].endswith((".", ")")), f"{block}.{key}"
    assert "`" not in node["description"]
    assert node["examples"]
    assert ("default" in node) != (key in around.get("required", ()))


@pytest.mark.parametrize(("block", "key", "node", "around"), list(_properties()))
def test_defaults_and_examples_are_valid(
    block: str, key: str, node: dict[str, Any], around: dict[str, Any]
) -> None:
    whole = {**node, "$defs": published_schema()["$defs"]}
    for value in [*node["examples"], *([node["default"]] if "default" in node else [])]:
        jsonschema.validate(value, whole, cls=Draft202012Validator)


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for key, child in node.items():
            if key not in ("examples", "default"):
                yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)


def test_no_noise_of_pydantic_is_left() -> None:
    for node in _nodes(published_schema()):
        assert "title" not in node or node is published_schema()
        assert {"type": "null"} not in node.get("anyOf", [])
        assert not {"ge", "le", "gt", "lt"} & set(node)  # constraints that pydantic could not map


def test_every_keyword_can_be_told_in_plain_words() -> None:
    told = {*schema_findings._SAYINGS, *schema_findings._PRECEDENCE, "uniqueItems"}
    told |= {"additionalProperties", "required"}
    silent = {"description", "default", "examples", "$ref", "$schema", "$defs", "title"}
    silent |= {"properties", "items"}
    for _, _, node, _ in _properties():
        for part in [node, node.get("items", {}), *node.get("anyOf", [])]:
            assert set(part) <= told | silent


def test_what_is_allowed_can_be_told_of_every_property() -> None:
    for _, _, node, _ in _properties():
        assert show_allowed(resolve(node, published_schema()))


def test_the_defaults_of_the_schema_are_those_of_the_models() -> None:
    given = {
        "version": 1,
        "name": "small",
        "dataset": {"source": "data/train.jsonl"},
        "model": {"base": "models/tiny"},
        "training": {},
    }
    recipe = Recipe.model_validate(given).model_dump(mode="json")

    def filled(block: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        out = {}
        for key, node in block["properties"].items():
            if key == "$schema":
                continue
            value = values.get(key, node.get("default"))
            inner = resolve(node, published_schema())
            block_given = "properties" in inner and value is not None
            out[key] = filled(inner, value) if block_given else value
        return out

    assert filled(published_schema(), given) == recipe
