"""The JSON Schema of recipes (draft 2020-12): made from the models, published in recipes/."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

METASCHEMA = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FILE = "recipe.schema.json"

Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """The schema of recipes, from the models in ``runner.recipe``."""
    from runner.recipe import Recipe

    made = Recipe.model_json_schema()
    for node in _nodes(made):
        _tidy(node, made["$defs"])
    location = {
        "description": "Where an editor finds this JSON Schema. It is not part of the recipe.",
        "type": "string",
        "default": "",
        "examples": ["./recipe.schema.json"],
    }
    return {
        "$schema": METASCHEMA,
        "title": "proofbox recipe",
        **{key: made[key] for key in ("description", "type", "additionalProperties", "required")},
        "properties": {"$schema": location, **made["properties"]},
        "$defs": _referenced(made),
    }


def _referenced(made: Schema) -> Schema:
    """The definitions that something refers to."""
    text = json.dumps(made)
    return {name: block for name, block in made["$defs"].items() if f'#/$defs/{name}"' in text}


def schema_text() -> str:
    """The schema as ``recipes/recipe.schema.json`` holds it."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


@cache
def published_schema() -> Schema:
    """The schema that is published with the recipes; documents are checked against this one."""
    text = files("recipes").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")
    schema: Schema = json.loads(text)
    return schema


def resolve(node: Schema, schema: Schema) -> Schema:
    """``node``, or the definition that it refers to."""
    reference: str | None = node.get("$ref")
    if reference is None:
        return node
    target: Schema = schema["$defs"][reference.removeprefix("#/$defs/")]
    return target


def _nodes(schema: Schema) -> Iterator[Schema]:
    """Every subschema that describes a value: blocks, their properties, items."""
    yield schema
    blocks = [*schema.get("$defs", {}).values(), *schema.get("properties", {}).values()]
    for child in [*blocks, *([schema["items"]] if "items" in schema else [])]:
        yield from _nodes(child)


def _tidy(node: Schema, definitions: Schema) -> None:
    """What pydantic writes, without what only confuses an editor."""
    node.pop("title", None)
    if "$ref" in node:
        block = definitions[node["$ref"].removeprefix("#/$defs/")]
        node.setdefault("description", block["description"])
        if "default" in node:
            node["default"] = {}  # the block's properties say their own defaults
    _merge_alternatives(node, definitions)
    if "description" in node:
        node["description"] = node["description"].replace("`", "")


def _merge_alternatives(node: Schema, definitions: Schema) -> None:
    """``anyOf`` of types as a list of types: keywords bind only the type that they are about."""
    alternatives = [_inlined(schema, definitions) for schema in node.get("anyOf", [])]
    others = [schema for schema in alternatives if schema != {"type": "null"}]
    named = [schema for schema in others if "enum" in schema or "const" in schema]
    if not alternatives or (named and len(others) > 1):
        return
    del node["anyOf"]
    for schema in others:
        node.update({key: value for key, value in schema.items() if key not in {"type", "title"}})
    node["type"] = [schema["type"] for schema in alternatives]
    if "enum" in node and len(others) < len(alternatives):
        node["enum"] = [*node["enum"], None]


def _inlined(schema: Schema, definitions: Schema) -> Schema:
    """One alternative; a block among them is copied to where it stands."""
    if "$ref" not in schema:
        return schema
    block: Schema = copy.deepcopy(definitions[schema["$ref"].removeprefix("#/$defs/")])
    return block
