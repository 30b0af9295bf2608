"""The part of an answer that is scored: after a text, by a preset, by a regular expression."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evalsuite.answer_code import code_blocks
from evalsuite.errors import EvaluationError
from evalsuite.examples import Example
from evalsuite.records import Extraction

# A number as people write it: $1,234.50, -3, .5. A minus after a digit is a difference: 10-5.
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]])[-\N{MINUS SIGN}])?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
    r"|(?:(?<![\w.)\]])[-\N{MINUS SIGN}])?\$?(?<!\d)\.\d+"
)
# How GSM8K marks its final answer (Cobbe et al. 2021; openai/grade-school-math, dataset.py).
_MARKED = re.compile(rf"####\s*({_NUMBER.pattern})")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTexts:
    """What metrics are given: answers and references, extracted where the task declares it.

    ``found`` says of each answer whether there was something to extract; it is None where the
    answers are scored as they are. ``references_extracted`` likewise, as a whole.
    """

    predictions: tuple[str, ...]
    references: tuple[str, ...]
    found: tuple[bool, ...] | None
    references_extracted: bool

    @property
    def columns(self) -> dict[str, Sequence[Any]]:
        """What to store of each answer beside the whole texts."""
        stored: dict[str, Sequence[Any]] = {}
        if self.found is not None:
            stored |= {"extracted": self.predictions, "extraction_found": self.found}
        if self.references_extracted:
            stored["extracted_reference"] = self.references
        return stored


def scored_texts(
    examples: Sequence[Example],
    answers: Sequence[str],
    *,
    of_answers: Extraction | None,
    of_references: Extraction | None,
) -> ScoredTexts:
    """Answers and the references of their examples, as metrics are to compare them.

    An answer without anything to extract is scored as an empty text.

    Args:
        examples: The example of each answer (n,).
        answers: What was generated (n,).
        of_answers: What is taken from each answer; None for all of it.
        of_references: What is taken from each reference; None for all of it.

    Raises:
        EvaluationError: There is nothing to extract from a reference: no answer could equal it.
    """
    parts = [extracted(text, of_answers) for text in answers] if of_answers else list(answers)
    return ScoredTexts(
        predictions=tuple(part or "" for part in parts),
        references=reference_texts(examples, of_references),
        found=tuple(part is not None for part in parts) if of_answers else None,
        references_extracted=of_references is not None,
    )


def reference_texts(examples: Sequence[Example], how: Extraction | None) -> tuple[str, ...]:
    """What the answers to ``examples`` (n,) are compared with.

    Raises:
        EvaluationError: There is nothing to extract from a reference: no answer could equal it.
    """
    return tuple(_reference(example, how) for example in examples)


def _reference(example: Example, how: Extraction | None) -> str:
    part = extracted(example.answer, how) if how else example.answer
    if part is None:
        raise EvaluationError(
            f"row {example.row}: extract.reference finds nothing in the reference "
            f"{example.answer[:80]!r}. Correct it, or leave such rows out with dataset.filter."
        )
    return part


def extracted(text: str, how: Extraction) -> str | None:
    """The part of ``text`` that ``how`` names, without white space around it; None if none.

    Where ``after`` is given, what comes before it is cut off first.
    """
    if how.after is not None:
        head, mark, tail = (
            text.partition(how.after) if how.take == "first" else text.rpartition(how.after)
        )
        del head
        if not mark:
            return None
        text = tail
    if how.preset is not None:
        found = _chosen(_PRESETS[how.preset](text), how)
    elif how.regex is not None:
        found = _chosen(_matches(text, how.regex, how.group), how)
    else:
        found = text
    return (found.strip() or None) if found is not None else None


def _chosen(candidates: Iterator[str], how: Extraction) -> str | None:
    if how.take == "first":
        return next(candidates, None)
    last = None
    for candidate in candidates:
        last = candidate
    return last


def _matches(text: str, regex: str, group: int | None) -> Iterator[str]:
    pattern = re.compile(regex)
    chosen = min(pattern.groups, 1) if group is None else group
    return (found.group(chosen) or "" for found in pattern.finditer(text))


def _last_number(text: str) -> Iterator[str]:
    """The number after ####, or else the last one; without $ and thousands' commas."""
    marked = _MARKED.search(text)
    numbers = [marked.group(1)] if marked else _NUMBER.findall(text)[-1:]
    for number in numbers:
        yield number.replace(",", "").replace("$", "").replace("\N{MINUS SIGN}", "-")


def _last_line(text: str) -> Iterator[str]:
    yield from [line for line in text.splitlines() if line.strip()][-1:]


def _last_boxed(text: str) -> Iterator[str]:
    r"""What the last whole \boxed{…} holds, as in MATH (Hendrycks et al. 2021)."""
    contents = [_braced(text, found.end()) for found in _BOXED.finditer(text)]
    yield from [content for content in contents if content is not None][-1:]


def _braced(text: str, start: int) -> str | None:
    """From ``start`` to the brace that closes what was opened before it."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return None


def _json_values(text: str) -> Iterator[str]:
    """Every JSON object or array that is not inside another one."""
    decoder, place = json.JSONDecoder(), 0
    while (opening := re.compile(r"[{\[]").search(text, place)) is not None:
        place = opening.start()
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        yield text[place:end]
        place = end


# preset -> what it finds in a text, in its order.
_PRESETS: dict[str, Callable[[str], Iterator[str]]] = {
    "last_number": _last_number,
    "last_line": _last_line,
    "last_boxed": _last_boxed,
    "code_block": lambda text: iter(code_blocks(text)),
    "json": _json_values,
}
