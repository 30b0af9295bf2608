"""Says what PyYAML found wrong in words that help someone who does not know its grammar."""

from __future__ import annotations

import re
from typing import NamedTuple

import yaml

from runner.recipe_reading.draft import DocumentSyntaxError, Place

BRACES = "a value that starts with '{{' must be in quotes"
_QUOTE = "put the value in quotes"


class _Saying(NamedTuple):
    """``sentence`` is said of a problem that matches; groups of the pattern fill its gaps."""

    problem: str
    sentence: str
    at_context: bool = False


# Tried in order. `problem` is searched for in "<context>: <problem>" of PyYAML 6.
_SAYINGS = (
    _Saying(
        r"simple key: could not find expected ':'",
        "a ':' is missing after this key",
        at_context=True,
    ),
    _Saying(
        r"quoted scalar: found unexpected (end of stream|document)",
        "the quote that opens here is never closed",
        at_context=True,
    ),
    _Saying(
        r"found unknown escape character (.+)",
        "a backslash before {0} is no escape in double quotes. "
        "Write \\\\ for a backslash, or use single quotes.",
    ),
    _Saying(
        r"expected escape sequence of (\d) hexadecimal",
        "this escape needs {0} hexadecimal digits. "
        "Write \\\\ for a backslash, or use single quotes.",
    ),
    _Saying(
        r"scanning an alias: ",
        f"a value that starts with '*' is a YAML alias: {_QUOTE} if it is text",
        at_context=True,
    ),
    _Saying(
        r"scanning an anchor: ",
        f"a value that starts with '&' is a YAML anchor: {_QUOTE} if it is text",
        at_context=True,
    ),
    _Saying(
        r"(a tag|a node|parsing a tag): ",
        f"a value that starts with '!' is a YAML tag: {_QUOTE} if it is text",
        at_context=True,
    ),
    _Saying(
        r"block scalar: ",
        "after '|' or '>' the text starts on the next line: "
        "end this line here, or put the value in quotes",
    ),
    _Saying(r"found character '\\t'", "a tab cannot indent: use spaces"),
    _Saying(
        r"found character ('.+') that cannot start",
        f"nothing can start with {{0}}: {_QUOTE} if it is text",
    ),
    _Saying(
        r"sequence entries are not allowed here",
        "a '- ' list item cannot stand here. Start the list on the line after its key, "
        "or write it as [a, b].",
    ),
    _Saying(
        r"flow (mapping|sequence): expected ',' or ('.'), but got '<stream end>'",
        "the bracket that opens here is never closed by {1}",
        at_context=True,
    ),
    _Saying(
        r"flow (mapping|sequence): expected ',' or ('.')",
        "a ',' or a {1} is missing before this. Put a text with ': ' in quotes; "
        "within single quotes write ' as ''.",
    ),
    _Saying(
        r"expected <block end>, but found ('<(scalar|anchor|tag|alias)>'|'[{\[]')",
        "the value of this line has ended already. Put all of it in one pair of quotes; "
        "within single quotes write ' as ''.",
    ),
    _Saying(
        r"expected <block end>, but found ('<block|'-'|'\?')",
        "the indentation fits none of the lines above. Indent this like its neighbours.",
    ),
    _Saying(r"expected <block end>, but found ':'", "a key is missing before ':'"),
    _Saying(
        r"expected <block end>, but found ('.')",
        "this {0} belongs to nothing before it. Put all of the value in quotes if it is text.",
    ),
    _Saying(
        r"expected the node content, but found ('.')",
        f"a value is missing before {{0}}, or cannot start with it: {_QUOTE} if it is text",
    ),
    _Saying(
        r"expected '<document start>'",
        "the document has ended already. A file holds one recipe.",
    ),
    _Saying(r"incompatible YAML document", "this version of YAML is unknown. Remove the line."),
)


def explain(error: yaml.MarkedYAMLError, text: str) -> DocumentSyntaxError:
    """``error``, which PyYAML raised for ``text``, as a fault in plain words."""
    problem = f"{error.context or ''}: {error.problem}"
    place = _place(error.problem_mark or error.context_mark)
    if "{{" in _line(text, place) and _starts_with_braces(_line(text, place)):
        column = _line(text, place).index("{{") + 1
        return DocumentSyntaxError(Place(line=place.line, column=column), BRACES)
    if "mapping values are not allowed" in problem:
        return _misplaced_key(text, place)
    for saying in _SAYINGS:
        match = re.search(saying.problem, problem)
        if match:
            mark = error.context_mark if saying.at_context else error.problem_mark
            return DocumentSyntaxError(_place(mark), saying.sentence.format(*match.groups()))
    return DocumentSyntaxError(place, f"this is not YAML ({problem.removeprefix(': ')})")


def _starts_with_braces(line: str) -> bool:
    """Whether the value in ``line`` starts with a Jinja expression that is not in quotes."""
    return re.search(r"(:|-)\s+\{\{", line) is not None and not re.search(r"[:-]\s+['\"]", line)


def _misplaced_key(text: str, place: Place) -> DocumentSyntaxError:
    """A ': ' where no key can be: a second one in its line, or a line indented too far."""
    before = _line(text, place)[: place.column - 1]
    if re.search(r":(\s|$)", before):
        message = "a second ': ' in one line. Put the value in quotes if it is text."
        return DocumentSyntaxError(place, message)
    key = before.strip()
    message = f"the key {key!r} cannot stand here. Indent it like its neighbours, and check that "
    message += "the line above it is complete."
    indent = len(before) - len(before.lstrip())
    return DocumentSyntaxError(Place(line=place.line, column=indent + 1), message)


def _line(text: str, place: Place) -> str:
    lines = text.splitlines()
    return lines[place.line - 1] if place.line <= len(lines) else ""


def _place(mark: yaml.Mark | None) -> Place:
    if mark is None:
        return Place(line=1, column=1)
    return Place(line=mark.line + 1, column=mark.column + 1)
