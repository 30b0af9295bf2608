"""Reads strict JSON (RFC 8259) and keeps the place of every key and value."""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from runner.recipe_reading.draft import DocumentSyntaxError, Draft, KeyPath, Place, Plain

_SPACE = re.compile(r"[ \t\n\r]*")
_WORD = re.compile(r"[^\s,:\[\]{}\"]+")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, bool | None] = {"null": None, "true": True, "false": False}
_OTHER_SPELLINGS = {
    "none": "null",
    "nil": "null",
    "undefined": "null",
    "yes": "true",
    "no": "false",
}
_NO_COMMENTS = "JSON has no comments. Remove it, or write the recipe in YAML."
_STRING_FAULTS = {
    "Unterminated string": "the text that starts here has no closing '\"'",
    "Invalid control character": "a line break, tab or control character cannot stand in a text: "
    "write \\n, \\t or \\u00XX",
    "Invalid \\escape": "this is no escape of JSON: write \\\\ for a backslash",
    "Invalid \\uXXXX escape": "\\u needs four hexadecimal digits",
}


def read_json(text: str, draft: Draft) -> Plain:
    """The value that ``text`` holds; places and flaws go into ``draft``. Empty text is null.

    Raises:
        DocumentSyntaxError: it is not JSON.
    """
    return _JsonReader(text, draft).document()


class _JsonReader:
    """A recursive-descent reader: one method per kind of value, ``_at`` is where it stands."""

    def __init__(self, text: str, draft: Draft) -> None:
        self._text = text
        self._draft = draft
        self._at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def document(self) -> Plain:
        self._skip_space()
        if self._peek() == "":
            return None
        value = self._value((), 0)
        self._skip_space()
        if self._at < len(self._text):
            raise self._fault(
                self._about_comment() or "nothing may follow the value that ends before this"
            )
        return value

    def _value(self, path: KeyPath, depth: int) -> Plain:
        self._draft.add_value(path, self._place(), depth)
        match self._peek():
            case "{":
                return self._mapping(path, depth)
            case "[":
                return self._sequence(path, depth)
            case '"':
                return self._draft.text(path, self._string())
            case _:
                return self._word(path)

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Plain]:
        entries: dict[str, Plain] = {}
        opened = self._open()
        while self._more("}", opened, first=not entries):
            place = self._place()
            key = self._key()
            self._expect_colon(key)
            if self._draft.add_key((*path, key), place):
                entries[key] = self._value((*path, key), depth + 1)
            else:
                self._read_aside(path, depth)
        return entries

    def _sequence(self, path: KeyPath, depth: int) -> list[Plain]:
        items: list[Plain] = []
        opened = self._open()
        while self._more("]", opened, first=not items):
            items.append(self._value((*path, len(items)), depth + 1))
        return items

    def _read_aside(self, path: KeyPath, depth: int) -> None:
        """Read a value that does not count, so that what follows it can be read."""
        kept, self._draft = self._draft, Draft()
        self._value(path, depth + 1)
        self._draft = kept

    def _open(self) -> int:
        self._at += 1
        return self._at - 1

    def _more(self, closing: str, opened: int, *, first: bool) -> bool:
        """Whether another entry follows; leaves ``_at`` on it, or after ``closing``."""
        self._skip_space()
        comma = self._at
        if not first and self._peek() == ",":
            self._at += 1
            self._skip_space()
            if self._peek() == closing:
                raise self._fault(f"no ',' may stand before the closing '{closing}'", at=comma)
        elif not first and self._peek() not in ("", closing):
            raise self._fault(
                self._about_comment() or f"a ',' is missing before this, or a '{closing}'"
            )
        if self._peek() == "":
            message = f"the '{self._text[opened]}' that opens here is never closed by '{closing}'"
            raise self._fault(message, at=opened)
        if self._peek() == closing:
            self._at += 1
            return False
        return True

    def _key(self) -> str:
        if self._peek() != '"':
            raise self._fault(self._about_comment() or "a key must be in double quotes")
        return self._string()

    def _expect_colon(self, key: str) -> None:
        self._skip_space()
        if self._peek() != ":":
            raise self._fault(f"a ':' is missing after the key {key!r}")
        self._at += 1
        self._skip_space()

    def _string(self) -> str:
        try:
            value, self._at = json.JSONDecoder().raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            known = (say for start, say in _STRING_FAULTS.items() if error.msg.startswith(start))
            raise self._fault(next(known, error.msg), at=error.pos) from None
        return str(value)

    def _word(self, path: KeyPath) -> Plain:
        match = _WORD.match(self._text, self._at)
        if match is None:
            raise self._fault("a value is missing here")
        word = match.group()
        if word in _CONSTANTS:
            self._draft.texts[path] = word
        elif not _NUMBER.fullmatch(word):
            raise self._fault(_about_word(word))
        self._at = match.end()
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if _INTEGER.fullmatch(word):
            return self._draft.integer(path, word)
        return self._draft.decimal(path, word)

    def _about_comment(self) -> str | None:
        return _NO_COMMENTS if self._text.startswith(("//", "/*", "#"), self._at) else None

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _place(self, at: int | None = None) -> Place:
        at = self._at if at is None else at
        line = bisect_right(self._line_starts, at)
        return Place(line=line, column=at - self._line_starts[line - 1] + 1)

    def _fault(self, message: str, *, at: int | None = None) -> DocumentSyntaxError:
        return DocumentSyntaxError(self._place(at), message)


def _about_word(word: str) -> str:
    shown = word if len(word) <= 40 else f"{word[:40]}…"  # noqa: PLR2004 - half a terminal's line
    lower = word.lower()
    if word.startswith(("//", "/*", "#")):
        return _NO_COMMENTS
    if word.startswith("'"):
        return "text must be in double quotes"
    if lower.lstrip("+-") in ("nan", "inf", "infinity"):
        return f"{shown} is not a number that JSON can hold"
    if lower in _CONSTANTS or lower in _OTHER_SPELLINGS:
        return f"{shown} is not JSON. Write {_OTHER_SPELLINGS.get(lower, lower)}."
    if re.match(r"[-+.]?[0-9]", word):
        return f"{shown} is not a number as JSON writes them, such as 12, -0.5 or 3e-4"
    return f"{shown} must be in double quotes if it is text"
