"""What a reader has read of a file so far: places of keys and values, and flaws."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
KeyPath = tuple[str | int, ...]

# The deepest recipe has 6 levels, its JSON Schema 8. The bound keeps "[[[[…" from our stack.
MAX_DEPTH = 32
# Larger integers fit no counter that a recipe sets, and Python takes long to read very long ones.
_MAX_INTEGER = 2**63 - 1
_MAX_DIGITS = 20
_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Place:
    """A place in a file; line and column count from 1."""

    line: int
    column: int


class DocumentSyntaxError(Exception):
    """The text stops being YAML or JSON at ``place``; nothing after it can be read."""

    def __init__(self, place: Place, message: str) -> None:
        """Say what is wrong at ``place``."""
        self.place = place
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Something that cannot be read at a key path, while the rest of the document can."""

    place: Place
    path: KeyPath
    message: str


@dataclass(slots=True, kw_only=True)
class Draft:
    """The places of a document's keys and values by key path, and its flaws; a reader fills it.

    ``texts`` holds scalars as they were written. ``unreadable`` are the paths of values that a flaw
    stands for: nobody should complain about them again.
    """

    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    texts: dict[KeyPath, str] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)
    unreadable: set[KeyPath] = field(default_factory=set)

    def spoil(self, path: KeyPath, place: Place, message: str) -> None:
        """Note that the value at ``path`` cannot be read."""
        self.flaws.append(Flaw(place=place, path=path, message=message))
        self.unreadable.add(path)

    def add_key(self, path: KeyPath, place: Place) -> bool:
        """Note a key; returns whether it is new. One given again is a flaw: the first counts."""
        if path in self.keys:
            first = self.keys[path].line
            message = f"this key is given twice, first in line {first}. Keep one of them."
            self.flaws.append(Flaw(place=place, path=path, message=message))
            return False
        if _SURROGATE.search(str(path[-1])):
            self.spoil(path, place, "this key holds half of a surrogate pair, which is no text")
        self.keys[path] = place
        return True

    def add_value(self, path: KeyPath, place: Place, depth: int) -> None:
        """Note where a value stands; ``depth`` counts the blocks around it.

        Raises:
            DocumentSyntaxError: it is nested too deeply.
        """
        check_depth(depth, place)
        self.values[path] = place

    def text(self, path: KeyPath, value: str) -> str:
        """Note a scalar that is text."""
        self.texts[path] = value
        if _SURROGATE.search(value):
            message = "this text holds half of a surrogate pair (\\ud800 to \\udfff). Write the "
            self.spoil(path, self.values[path], f"{message}character itself.")
        return value

    def integer(self, path: KeyPath, text: str, *, base: int = 10) -> int:
        """Note a scalar that is an integer, written as ``text``."""
        self.texts[path] = text
        value = int(text, base) if len(text.lstrip("+-0")) <= _MAX_DIGITS else _MAX_INTEGER + 1
        if abs(value) > _MAX_INTEGER:
            self._spoil_number(path, text)
        return value

    def decimal(self, path: KeyPath, text: str) -> float:
        """Note a scalar that is a decimal number, written as ``text``."""
        self.texts[path] = text
        value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(value):
            self._spoil_number(path, text)
        return value

    def _spoil_number(self, path: KeyPath, text: str) -> None:
        shown = text if len(text) <= _MAX_DIGITS else f"{text[:_MAX_DIGITS]}…"
        self.spoil(path, self.values[path], f"{shown} is not a number that a recipe can hold")


def check_depth(depth: int, place: Place) -> None:
    """Refuse what is inside more than ``MAX_DEPTH`` blocks.

    Raises:
        DocumentSyntaxError: it is.
    """
    if depth > MAX_DEPTH:
        raise DocumentSyntaxError(place, f"this is nested more than {MAX_DEPTH} levels deep")


def show_path(path: KeyPath) -> str:
    """A key path as a recipe's author would write it: ``gates[1].metric``."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            shown += f".{step}" if shown else step
        else:
            shown += f"[{step!r}]"
    return shown
