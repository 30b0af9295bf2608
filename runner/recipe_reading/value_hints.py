"""What someone probably meant by a value of the wrong kind."""

from __future__ import annotations

import re
from typing import Any

from runner.recipe_reading.draft import Plain
from runner.recipe_reading.nearest_name import did_you_mean
from runner.recipe_reading.recipe_schema import Schema
from runner.recipe_reading.value_text import show_constant

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"\d{1,3}([_,]\d{3})+")
_FLAGS = dict.fromkeys(("yes", "on", "y", "true"), True)
_FLAGS |= dict.fromkeys(("no", "off", "n", "false"), False)
_UNITS = {"%": 0.01, "k": 1000, "m": 1_000_000}
# Longer text is not repeated in a hint.
_LONGEST = 60
_NOTHING = ("none", "nil", "null", "~", "")


def hint(value: Plain, schema: Schema) -> str:
    """A sentence to follow "``value`` is not what ``schema`` allows", or nothing."""
    types = _types(schema)
    if isinstance(value, str):
        hints = (_unquoted, _null, _boolean, _number, _near_name, _list)
        return next(filter(None, (give(value, schema, types) for give in hints)), "")
    if isinstance(value, bool | int | float) and "string" in types and not _constants(schema):
        return "Put it in quotes."
    if isinstance(value, list) and len(value) == 1 and "string" in types:
        return "Write it without the brackets."
    if isinstance(value, dict) and "object" in _types(schema.get("items", {})):
        return "Write it as a list of one block: put - before its first key."
    if value is None and "object" in types:
        return "Add keys under it, or remove it."
    return ""


def _unquoted(text: str, schema: Schema, types: set[str]) -> str:
    names = [show_constant(constant) for constant in _constants(schema)]
    if text in names or (types & {"number", "integer"} and _NUMBER.fullmatch(text)):
        return f"It is text because of its quotes: write {text} without them."
    return ""


def _null(text: str, schema: Schema, types: set[str]) -> str:
    del schema
    return "Did you mean null?" if "null" in types and text.lower() in _NOTHING else ""


def _boolean(text: str, schema: Schema, types: set[str]) -> str:
    flag = _FLAGS.get(text.lower())
    wanted = "boolean" in types or any(constant is True for constant in _constants(schema))
    return f"Did you mean {show_constant(flag)}?" if wanted and flag is not None else ""


def _number(text: str, schema: Schema, types: set[str]) -> str:
    del schema
    if not types & {"number", "integer"}:
        return ""
    if _THOUSANDS.fullmatch(text):
        return f"Did you mean {re.sub('[_,]', '', text)}?"
    if re.fullmatch(r"\d+,\d+", text):
        return f"Did you mean {text.replace(',', '.')}?"
    match = _NUMBER.match(text)
    if match is None or len(text) > _LONGEST:
        return ""
    factor = _UNITS.get(text[match.end() :].strip().lower())
    meant = match.group() if factor is None else f"{float(match.group()) * factor:.12g}"
    return f"Did you mean {meant}?"


def _near_name(text: str, schema: Schema, types: set[str]) -> str:
    del types
    return did_you_mean(text, map(show_constant, _constants(schema)))


def _list(text: str, schema: Schema, types: set[str]) -> str:
    del schema
    return f"Write it as a list: [{text}]." if "array" in types and len(text) < _LONGEST else ""


def hint_for_range(value: Plain, schema: Schema) -> str:
    """A sentence to follow "``value`` is out of range", or nothing."""
    highest = schema.get("maximum", schema.get("exclusiveMaximum"))
    if isinstance(value, int | float) and highest == 1 and 2 <= value <= 100:  # noqa: PLR2004
        return f"Did you mean {value / 100:g}?"  # a share, given as a percentage
    nothing = re.search(r"null for [^.;]+", schema.get("description", ""))
    return f"Write {nothing.group()}." if value == 0 and nothing else ""


def _types(schema: Schema) -> set[str]:
    if "anyOf" in schema:
        return {name for branch in schema["anyOf"] for name in _types(branch)}
    declared = schema.get("type", [])
    return set(declared if isinstance(declared, list) else [declared])


def _constants(schema: Schema) -> list[Any]:
    if "anyOf" in schema:
        return [constant for branch in schema["anyOf"] for constant in _constants(branch)]
    return list(schema.get("enum", [schema["const"]] if "const" in schema else []))
