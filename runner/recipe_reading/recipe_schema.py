"""The JSON Schemas (draft 2020-12) that are published in recipes/, made from the models."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

METASCHEMA = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FILE = "recipe.schema.json"
BENCHMARK_SCHEMA_FILE = "benchmark.schema.json"
# For editors alone: two files that differ in nothing else mean the same.
EDITOR_KEY = "$schema"

Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """The schema of recipes, from the models in ``runner.recipe``."""
    from runner.recipe import Recipe

    return _schema(Recipe.model_json_schema(), "recipe", f"./{SCHEMA_FILE}")


def benchmark_schema() -> Schema:
    """The schema of benchmark files, from the models in ``runner.recipe``."""
    from runner.recipe import Benchmark

    return _schema(Benchmark.model_json_schema(), "benchmark", f"../{BENCHMARK_SCHEMA_FILE}")


def _schema(made: Schema, what: str, place: str) -> Schema:
    """What pydantic made of a model, as it is published; ``place`` is an example of ``$schema``."""
    for node in _nodes(made):
        _tidy(node, made["$defs"])
    location = {
        "description": f"Where an editor finds this JSON Schema. It is not part of the {what}.",
        "type": "string",
        "default": "",
        "examples": [place],
    }
    return {
        "$schema": METASCHEMA,
        "title": f"proofbox {what}",
        **{key: made[key] for key in ("description", "type", "additionalProperties", "required")},
        "properties": {"$schema": location, **made["properties"]},
        "$defs": _referenced(made),
    }


def _referenced(made: Schema) -> Schema:
    """The definitions that something refers to."""
    text = json.dumps(made)
    return {name: block for name, block in made["$defs"].items() if f'#/$defs/{name}"' in text}


def schema_text(file: str = SCHEMA_FILE) -> str:
    """The schema as the ``file`` of this name in ``recipes/`` holds it."""
    made = benchmark_schema() if file == BENCHMARK_SCHEMA_FILE else recipe_schema()
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


@cache
def published_schema(file: str = SCHEMA_FILE) -> Schema:
    """The schema that is published with the recipes; documents are checked against this one."""
    text = files("recipes").joinpath(file).read_text(encoding="utf-8")
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
