"""What is wrong with a JSON Schema that answers are to follow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from runner.recipe_reading.draft import KeyPath


def schema_problem(schema: Mapping[str, Any]) -> tuple[KeyPath, str] | None:
    """Where a schema is wrong, and how; None where it is right."""
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft202012Validator, validator_for

    kind = validator_for(schema, default=Draft202012Validator)
    error = best_match(kind(kind.META_SCHEMA).iter_errors(schema))
    if error is not None:
        # What none of several alternatives allows, jsonschema tells in words of its own.
        several = error.validator in {"anyOf", "oneOf"}
        why = f"{error.instance!r} is not allowed here" if several else error.message
        return tuple(error.absolute_path), f"this is no JSON Schema: {why}"
    for path, target in _references(schema, ()):
        if not target.startswith("#"):
            message = (
                f"this refers to {target}, and schemas are not fetched. Put the definition under "
                "$defs, and refer to it as #/$defs/…"
            )
            return path, message
        if not _is_there(schema, target):
            return path, f"this refers to {target}, and there is nothing of that name in the schema"
    return None


def _is_there(schema: Mapping[str, Any], target: str) -> bool:
    """Whether a reference within the schema leads anywhere.

    Where a part of the schema has a name of its own, references in it start there: what leads
    nowhere then shows when answers are scored.
    """
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    if any('"$id":' in json.dumps(part) for key, part in schema.items() if key != "$id"):
        return True
    dialect = specification_with(str(schema.get("$schema", "")), default=DRAFT202012)
    whole = dialect.create_resource(schema)
    name = whole.id() or ""
    registry: Registry[Any] = Registry().with_resource(name, whole)
    try:
        registry.resolver(name).lookup(target)
    except Unresolvable:
        return False
    return True


def _references(node: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Every ``$ref`` of a schema with its place; not those that are mere examples or constants."""
    if isinstance(node, Mapping):
        target = node.get("$ref")
        if isinstance(target, str):
            yield (*path, "$ref"), target
        for key, value in node.items():
            if key not in {"const", "enum", "default", "examples"}:
                yield from _references(value, (*path, key))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _references(value, (*path, place))
