"""The kinds of value a generated function takes, and sample values of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from random import Random
from typing import Any


def listed(text: str) -> tuple[str, ...]:
    """The words of ``text``; keeps long lists of words readable."""
    return tuple(text.split())


WORDS = listed(
    """
    apple pear plum fig melon cherry grape lemon river stone cloud field maple cedar tiger
    otter eagle robin level noon radar civic paper table lamp window basket garden ladder
    kitten bottle candle pepper summer winter sugar
    """
)
SENTENCE_WORDS = (*WORDS, "The", "a", "Red", "blue", "is", "and", "not", "OLD", "new2", "7")

# whatever a generated function takes or returns: numbers, texts, lists, tuples, dictionaries
Value = Any


class Kind(StrEnum):
    """A kind of value: of a parameter, or of an element that a stream passes along."""

    NUMBER = "number"
    COUNT = "count"
    NUMBERS = "numbers"
    TEXT = "text"
    WORD = "word"
    CHARACTER = "character"
    WORDS = "words"
    TABLE = "table"


def sample(kind: Kind, rng: Random, hints: Sequence[int] = ()) -> Value:
    """A value of ``kind``; numbers near ``hints`` (a specification's constants) come up often.

    Edge cases (empty, one element, duplicates) are among the values, so that tests made of
    samples tell ``>`` from ``>=``.
    """
    return _SAMPLERS[kind](rng, hints)


def _length(rng: Random) -> int:
    return rng.choice((0, 1, 2, 3, 4, 4, 5, 5, 6, 7))


def _number(rng: Random, hints: Sequence[int]) -> int:
    if hints and rng.random() < 0.4:
        return rng.choice(hints) * rng.choice((1, 1, 1, 2, -1)) + rng.choice((-1, 0, 0, 1))
    return rng.randint(-12, 40)


def _table(rng: Random, hints: Sequence[int]) -> dict[str, int]:
    return {name: _number(rng, hints) for name in rng.sample(WORDS, k=_length(rng))}


_SAMPLERS: dict[Kind, Callable[[Random, Sequence[int]], Value]] = {
    Kind.NUMBER: _number,
    Kind.COUNT: lambda rng, hints: max(1, abs(_number(rng, hints)) % 41),
    Kind.NUMBERS: lambda rng, hints: [_number(rng, hints) for _ in range(_length(rng))],
    Kind.WORDS: lambda rng, _: rng.choices(WORDS, k=_length(rng)),
    Kind.TEXT: lambda rng, _: " ".join(rng.choices(SENTENCE_WORDS, k=max(1, _length(rng)))),
    Kind.TABLE: _table,
}
