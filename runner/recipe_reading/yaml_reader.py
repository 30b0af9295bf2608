"""Reads YAML by the core schema of YAML 1.2 and keeps the place of every key and value.

PyYAML splits the text into events; what a scalar means is decided here, because PyYAML follows
YAML 1.1, where ``3e-4`` is text and ``on`` is true. Aliases, anchors, tags and merge keys are
refused, so a recipe says each value where it applies (and cannot be a "billion laughs").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from runner.recipe_reading.draft import (
    DocumentSyntaxError,
    Draft,
    KeyPath,
    Place,
    Plain,
    check_depth,
)
from runner.recipe_reading.yaml_faults import BRACES, explain

# YAML allows none of these unescaped, save the last four, at which YAML 1.1 breaks lines and 1.2
# does not: text with them would be read differently.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u2028\u2029]"
)
# YAML 1.2.2, section 10.3.2, in its order.
_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_DECIMAL = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_NOT_HERE = "which a recipe cannot have"
_OR_QUOTE = "or put the value in quotes if it is text"
_TAGGED = (yaml.MappingStartEvent, yaml.SequenceStartEvent, yaml.ScalarEvent)


def read_yaml(text: str, draft: Draft) -> Plain:
    """The value that ``text`` holds; places and flaws go into ``draft``. Empty text is null.

    Raises:
        DocumentSyntaxError: it is not YAML, or more than one document.
    """
    odd = _FORBIDDEN.search(text)
    if odd:
        raise DocumentSyntaxError(_place_of(text, odd.start()), _about_character(odd.group()))
    return _YamlReader(text, draft).document()


class _YamlReader:
    """Builds values from events; one method per kind of node."""

    def __init__(self, text: str, draft: Draft) -> None:
        self._draft = draft
        self._events = _events(text)

    def document(self) -> Plain:
        next(self._events)  # start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._node(next(self._events), (), 0)
        next(self._events)  # end of the document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise DocumentSyntaxError(
                _place(after), "a second document starts here. Put it in a file of its own."
            )
        return value

    def _node(self, event: yaml.Event, path: KeyPath, depth: int) -> Plain:
        self._draft.add_value(path, _place(event), depth)
        if isinstance(event, yaml.AliasEvent):
            message = f"'*{event.anchor}' stands for a value from elsewhere, {_NOT_HERE}. Write the"
            self._draft.spoil(path, _place(event), f"{message} value out, {_OR_QUOTE}.")
            return None
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            message = f"'&{event.anchor}' names a value for use elsewhere, {_NOT_HERE}. Remove it,"
            self._draft.spoil(path, _place(event), f"{message} {_OR_QUOTE}.")
        if isinstance(event, _TAGGED) and event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            message = f"'{tag}' is a tag, {_NOT_HERE}. Remove it, {_OR_QUOTE}."
            self._draft.spoil(path, _place(event), message)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._scalar(event, path)

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Plain]:
        entries: dict[str, Plain] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._skip_entry(event)
                self._spoil_key(path, event)
            elif event.value == "<<" and event.style is None:
                self._skip_entry(event)
                message = "'<<' merges mappings in YAML 1.1 and not in 1.2. Write the keys out."
                self._draft.spoil(path, _place(event), message)
            elif self._draft.add_key((*path, event.value), _place(event)):
                key: str = event.value
                entries[key] = self._node(next(self._events), (*path, key), depth + 1)
            else:
                self._skip(next(self._events))
        return entries

    def _spoil_key(self, path: KeyPath, event: yaml.Event) -> None:
        """A key that is no text, which is often Jinja without quotes."""
        place, around = _place(event), self._draft.values[path]
        opens = isinstance(event, yaml.MappingStartEvent) and place.line == around.line
        if opens and place.column == around.column + 1:
            self._draft.spoil(path, around, BRACES)
            return
        message = "a key must be plain text. A text that starts with '{', '[' or '*' must be in "
        self._draft.spoil(path, place, f"{message}quotes.")

    def _sequence(self, path: KeyPath, depth: int) -> list[Plain]:
        items: list[Plain] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), depth + 1))
        return items

    def _scalar(self, event: yaml.Event, path: KeyPath) -> Plain:
        assert isinstance(event, yaml.ScalarEvent)
        text: str = event.value
        if event.style is not None:
            return self._draft.text(path, text)
        return _resolve(text, path, self._draft)

    def _skip_entry(self, key: yaml.Event) -> None:
        self._skip(key)
        self._skip(next(self._events))

    def _skip(self, event: yaml.Event) -> None:
        """Leave out a node with all that is in it."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            check_depth(depth, _place(event))
            event = next(self._events)


def _events(text: str) -> Iterator[yaml.Event]:
    """The events of ``text``; PyYAML's errors become ours."""
    place = Place(line=1, column=1)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            place = _place(event)
            yield event
    except yaml.MarkedYAMLError as error:
        raise explain(error, text) from None
    except (ValueError, OverflowError):
        # PyYAML lets these through for "\UFFFFFFFF" and for a %YAML version of 5,000 digits.
        message = "a number or an escape in the value that follows this is out of range"
        raise DocumentSyntaxError(place, message) from None


def _resolve(text: str, path: KeyPath, draft: Draft) -> Plain:
    """What an unquoted scalar means by the core schema of YAML 1.2."""
    draft.texts[path] = text
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return _TRUE.fullmatch(text) is not None
    if _INTEGER.fullmatch(text):
        return draft.integer(path, text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return draft.integer(path, text, base=0)
    if _DECIMAL.fullmatch(text):
        return draft.decimal(path, text)
    return draft.text(path, text)


def _about_character(character: str) -> str:
    code = f"U+{ord(character):04X}"
    if character in "\x85\u2028\u2029":
        return f"the line separator {code} cannot stand here. Remove it, or write it as an escape."
    return f"the control character {code} cannot stand here. Is this a text file?"


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    assert mark is not None  # only events that are made by hand have none
    return Place(line=mark.line + 1, column=mark.column + 1)


def _place_of(text: str, at: int) -> Place:
    return Place(line=text.count("\n", 0, at) + 1, column=at - text.rfind("\n", 0, at))
