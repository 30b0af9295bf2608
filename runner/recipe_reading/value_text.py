"""How values are named in messages: what was found, and what is allowed by a JSON Schema."""

from __future__ import annotations

from typing import Any

from runner.recipe_reading.draft import Plain
from runner.recipe_reading.recipe_schema import Schema

_LONGEST = 60
_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a block of keys",
}


def show_value(value: Plain, written: str | None = None) -> str:
    """``value`` as a recipe has it, cut if long; ``written`` is how a scalar stands in the file."""
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")
    if value is None:
        return written or "empty"
    return written or (str(value).lower() if isinstance(value, bool) else str(value))


def show_constant(value: Any) -> str:  # noqa: ANN401 - a value of a JSON Schema
    """A value of a schema as one would write it in a recipe."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def show_allowed(schema: Schema) -> str:
    """What ``schema`` allows, as the end of "x is not …"."""
    if "enum" in schema:
        return f"one of {', '.join(map(show_constant, schema['enum']))}"
    if "const" in schema:
        return show_constant(schema["const"])
    if "anyOf" in schema:
        return " or ".join(f"{show_allowed(branch)}{_range(branch)}" for branch in schema["anyOf"])
    declared = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    types = [name for name in declared if name != "null"]
    shown = [_TYPES[name] for name in types]
    if "object" in types:
        keys = schema.get("properties")  # a JSON Schema or options may have any keys
        shown[types.index("object")] += f" ({', '.join(keys)})" if keys else ""
    return " or ".join(shown)


def _range(schema: Schema) -> str:
    return f" from {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""
