"""The columns that are read of each row, and what a value must be to be read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

MAX_DEPTH = 100  # levels of lists and objects; Python's own JSON writer fails at about ten times
_TYPES = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    dict: "an object",
    list: "a list",
    tuple: "a list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that is read: of kind ``text`` a str, of kind ``json`` any JSON value.

    Rows may leave out an ``optional`` column, or hold null: a text is then empty, JSON is None.
    ``fault`` names what else is wrong with a value of the right kind, or gives None.
    """

    name: str
    kind: Literal["text", "json"] = "text"
    optional: bool = False
    fault: Callable[[Any], str | None] | None = None

    @property
    def missing(self) -> str | None:
        """What an optional column holds where a row has no value."""
        return "" if self.kind == "text" else None

    def fault_of(self, value: object) -> str | None:
        """What keeps ``value`` from being read, or None."""
        fault = text_fault(value) if self.kind == "text" else json_fault(value)
        return self.fault(value) if fault is None and self.fault is not None else fault


def text_fault(value: object) -> str | None:
    """What keeps ``value`` from being a text, or None."""
    if not isinstance(value, str):
        return f"holds {type_name(value)}, not a text"
    return None if is_unicode(value) else "holds half of a surrogate pair, which no text has"


def json_fault(value: object, depth: int = 0) -> str | None:
    """What keeps ``value`` from being a JSON value whose texts are Unicode, or None."""
    if isinstance(value, dict | list):
        return _fault_inside(value, depth)
    if isinstance(value, str):
        return text_fault(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else f"holds {value}, which no JSON has"
    if value is None or isinstance(value, int):
        return None
    return f"holds {type_name(value)}, which is no JSON"


def _fault_inside(value: dict[Any, Any] | list[Any], depth: int) -> str | None:
    if depth > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} levels deep"
    for part in value if isinstance(value, list) else (*value, *value.values()):
        if type(part) is str and part.isascii():
            continue  # nearly all parts
        fault = json_fault(part, depth + 1)
        if fault is not None:
            return fault
    return None


def is_unicode(text: str) -> bool:
    """Whether ``text`` has no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def type_name(value: object) -> str:
    """The type of a value in the words of JSON, or its Python name where JSON has no such type."""
    if value is None:
        return "null"
    name = type(value).__name__
    article = "an" if name[0] in "aeiou" else "a"
    return _TYPES.get(type(value), f"{article} {name}")
