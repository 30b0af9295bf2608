"""Checks a document against the published JSON Schema and says each error in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from runner.recipe_reading.document import Document
from runner.recipe_reading.draft import KeyPath, Plain, show_path
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.nearest_name import did_you_mean, nearest_name
from runner.recipe_reading.recipe_schema import (
    BENCHMARK_SCHEMA_FILE,
    SCHEMA_FILE,
    Schema,
    published_schema,
    resolve,
)
from runner.recipe_reading.value_hints import hint, hint_for_range
from runner.recipe_reading.value_text import show_allowed, show_constant, show_value

# Of several errors about one value the first of these is told: the others follow from it.
_PRECEDENCE = ("enum", "const", "anyOf", "type")
# Longer text is not repeated in a hint.
_LONGEST = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Error:
    """What is used of a ``jsonschema.ValidationError``, typed."""

    path: KeyPath
    keyword: str
    instance: Plain
    schema: Schema


# What to do about a value, where the schema cannot say it.
_ADVICE: dict[tuple[str | int, str], str] = {
    ("temperature", "exclusiveMinimum"): "For the likeliest token each time remove this, and "
    "write do_sample: false.",
    ("weight", "exclusiveMinimum"): "To leave a source out, remove it.",
    ("contents", "const"): "A merged model is another artefact than the adapter that is judged, "
    "and a quantized base cannot be merged into. Merge the released adapter into the "
    "full-precision base with peft (merge_and_unload), and judge what comes out: proofbox eval "
    "MERGED --recipe THIS.",
}
# Keys of trainers that choose a checkpoint by how a partition comes out.
_CHOOSING = (
    "early_stopping", "early_stopping_patience", "early_stopping_threshold",
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "best_checkpoint",
)  # fmt: skip
_CHOSEN = (
    "No checkpoint is chosen by a partition: the adapter after the last step is judged. Read the "
    "validation loss (validate_every) and set max_steps; the test partition is for gates alone."
)


def schema_findings(document: Document, schema_file: str = SCHEMA_FILE) -> list[Finding]:
    """Everything that the published schema of this name does not allow in ``document``."""
    told: dict[KeyPath, _Error] = {}
    findings: list[Finding] = []
    for error in _errors(document.value, schema_file):
        if error.keyword == "additionalProperties":
            findings.extend(_unknown_keys(error, schema_file))
        elif error.keyword == "required":
            findings.extend(_missing_keys(error))
        elif error.path not in told or _rank(error) < _rank(told[error.path]):
            told[error.path] = error
    # Of a list with far too many items only this is told.
    endless = [error.path for error in told.values() if error.keyword == "maxItems"]
    findings.extend(_about_value(error, document) for error in told.values())
    findings = [f for f in findings if not any(_is_inside(f.path, path) for path in endless)]
    meant = {finding.meant for finding in findings}
    # jsonschema reports each missing key, and here each report lists all: hence the dictionary.
    return list(dict.fromkeys(finding for finding in findings if finding.path not in meant))


def _errors(value: Plain, schema_file: str) -> Iterator[_Error]:
    for error in _validator(schema_file).iter_errors(value):
        yield _Error(
            path=tuple(error.absolute_path),
            keyword=str(error.validator),
            instance=cast(Plain, error.instance),
            schema=cast(Schema, error.schema),
        )


@cache
def _validator(schema_file: str) -> Validator:
    extended: type[Validator] = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]  # jsonschema leaves `extend` untyped
    return extended(published_schema(schema_file))


def _pattern(
    validator: Validator, pattern: str, instance: object, schema: Schema
) -> Iterator[ValidationError]:
    """``pattern`` as ECMA-262 has it: ``$`` does not match before a line break at the end."""
    del validator, schema
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _matches(pattern: str, text: str) -> bool:
    return re.search(re.sub(r"\$$", r"\\Z", pattern), text) is not None


def _is_inside(path: KeyPath, around: KeyPath) -> bool:
    return len(path) > len(around) and path[: len(around)] == around


def _rank(error: _Error) -> int:
    known = error.keyword in _PRECEDENCE
    return _PRECEDENCE.index(error.keyword) if known else len(_PRECEDENCE)


def _unknown_keys(error: _Error, schema_file: str) -> Iterator[Finding]:
    given = cast(dict[str, Plain], error.instance)
    known: list[str] = list(error.schema["properties"])
    for key in given.keys() - set(known):
        path = (*error.path, key)
        near = nearest_name(key, known)
        if key in _CHOOSING:
            more = _CHOSEN
        elif near is None:
            more = _where_it_belongs(key, error, schema_file)
        elif near in given:
            more = f"It is like {near}, which is given too. Remove one."
        else:
            more = f"Did you mean {near}?"
        meant = (*error.path, near) if near and near not in given else None
        message = sentences("unknown key", more)
        yield Finding(path=path, message=message, at_key=True, stray=True, meant=meant)


def _where_it_belongs(key: str, error: _Error, schema_file: str) -> str:
    """A block inside or beside this one that has such a key, or else the keys there are here."""
    schema, block = published_schema(schema_file), error.schema
    for around in (block, schema):
        for name, node in around["properties"].items():
            if key in resolve(node, schema).get("properties", {}):
                return f"It belongs under {name}."
    known = [name for name in block["properties"] if not name.startswith("$")]
    whole = "A benchmark" if schema_file == BENCHMARK_SCHEMA_FILE else "A recipe"
    return f"{show_path(error.path) or whole} has the keys {', '.join(known)}."


def _missing_keys(error: _Error) -> Iterator[Finding]:
    given = cast(dict[str, Plain], error.instance)
    for key in error.schema["required"]:
        if key not in given:
            node = error.schema["properties"][key]
            example = f"For example: {key}: {_flow(node['examples'][0])}"
            message = sentences("this key is missing", node["description"], example)
            yield Finding(path=(*error.path, key), message=message, at_key=True)


def _flow(value: Any) -> str:  # noqa: ANN401 - a value of a JSON Schema
    """``value`` as YAML in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return show_constant(value)


def _about_value(error: _Error, document: Document) -> Finding:
    if error.keyword == "uniqueItems":
        return _repeated(error)
    found = show_value(error.instance, document.texts.get(error.path))
    say = _SAYINGS.get(error.keyword, _not_allowed)
    message = say(found, error.instance, error.schema)
    advice = _ADVICE.get((error.path[-1], error.keyword), "") if error.path else ""
    return Finding(path=error.path, message=sentences(message, advice))


def _not_allowed(found: str, value: Plain, schema: Schema) -> str:
    more = hint(value, schema) or _block_hint(value, schema)
    if isinstance(value, dict | list) or value is None:
        return sentences(f"this is {found}, not {show_allowed(schema)}", more)
    return sentences(f"{found} is not {show_allowed(schema)}", more)


def _block_hint(value: Plain, schema: Schema) -> str:
    """For a value where a block belongs: the one key of the block that it may be meant for."""
    required: list[str] = schema.get("required", [])
    if len(required) != 1 or not isinstance(value, str) or len(value) > _LONGEST:
        return ""
    return f"Did you mean {{{required[0]}: {value}}}?"


def _only(found: str, value: Plain, schema: Schema) -> str:
    only = f"{found} is not {show_constant(schema['const'])}, the only value allowed"
    return sentences(only, hint(value, schema) or schema.get("description", ""))


def _out_of_range(relation: str, keyword: str) -> Callable[[str, Plain, Schema], str]:
    def say(found: str, value: Plain, schema: Schema) -> str:
        return sentences(f"{found} is {relation} {schema[keyword]}", hint_for_range(value, schema))

    return say


def _empty(found: str, value: Plain, schema: Schema) -> str:
    what = "list" if isinstance(value, list) else "text"
    examples = [e for e in schema.get("examples", []) if isinstance(e, type(value))]
    example = f"For example: {_flow(examples[0])}" if examples else ""
    return sentences(f"this {what} is empty", hint(value, schema) or example)


def _misformed(found: str, value: Plain, schema: Schema) -> str:
    text = str(value)
    candidate = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    fits = candidate and _matches(schema["pattern"], candidate)
    examples = [example for example in schema["examples"] if isinstance(example, str)]
    near = f"Did you mean {candidate}?" if fits else did_you_mean(text, examples)
    return sentences(f"{found} is not allowed", near, schema["description"])


def _repeated(error: _Error) -> Finding:
    items = cast(list[Plain], error.instance)
    written = [repr(item) for item in items]
    first = {text: at for at, text in reversed(list(enumerate(written)))}
    at = next((at for at, text in enumerate(written) if first[text] < at), len(items) - 1)
    return Finding(path=(*error.path, at), message=f"{show_value(items[at])} is listed twice")


_SAYINGS: dict[str, Callable[[str, Plain, Schema], str]] = {
    "const": _only,
    "pattern": _misformed,
    "minimum": _out_of_range("less than the minimum", "minimum"),
    "maximum": _out_of_range("more than the maximum", "maximum"),
    "exclusiveMinimum": _out_of_range("not more than", "exclusiveMinimum"),
    "exclusiveMaximum": _out_of_range("not less than", "exclusiveMaximum"),
    "minLength": _empty,
    "minItems": _empty,
    "maxItems": lambda _found, value, schema: (
        f"this list has {len(cast(list[Plain], value))} items, "
        f"more than the maximum {schema['maxItems']}"
    ),
    "maxLength": lambda _found, value, schema: (
        f"this text has {len(str(value))} characters, more than the maximum {schema['maxLength']}"
    ),
}
