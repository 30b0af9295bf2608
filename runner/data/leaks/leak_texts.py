"""Texts of rows that may be leaks: read back a few at a time, and compared in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.data.leaks.leak_report import ComparedBy
from runner.data.leaks.near_duplicates import compared_texts, gram_sets, jaccard, normalized

# Question and answer of the rows of these numbers, which are sorted.
Texts = Callable[[Sequence[int]], list[tuple[str, str]]]

_CHARACTERS = 32_000_000  # in memory at a time
_MOST_TEXTS = 50_000
_GRAM_SETS = 512  # pairs whose grams are in memory at a time

Places = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt that is no row's: `Conversation.question` and `Conversation.context` of it."""

    text: str
    context: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTexts:
    """The texts of rows by their places among all that are compared.

    ``numbers`` [rows] are row numbers; the prompts ``extra`` have the places after them.
    ``mean_length`` is the usual length of a row's texts, in characters.
    """

    texts: Texts
    numbers: NDArray[np.int32]
    extra: Sequence[str]
    mean_length: float

    @property
    def at_once(self) -> int:
        """How many rows' texts may be in memory."""
        return min(_MOST_TEXTS, max(64, int(_CHARACTERS / max(1.0, self.mean_length))))

    def raw(self, places: Places, by: ComparedBy) -> Mapping[int, str]:
        """The texts of rows as they are in the data."""
        found: dict[int, str] = {}
        rows = len(self.numbers)
        wanted = np.unique(places)
        for place in wanted[wanted >= rows].tolist():
            found[place] = self.extra[place - rows]
        wanted = wanted[wanted < rows]
        wanted = wanted[np.argsort(self.numbers[wanted], kind="stable")]
        texts = self.texts(self.numbers[wanted].tolist())
        for place, (question, answer) in zip(wanted.tolist(), texts, strict=True):
            whole = not normalized(question)
            found[place] = answer if by == "answer" or whole else question
        return found

    def beginnings(self, places: Places, by: ComparedBy, length: int) -> Mapping[int, str]:
        """The first ``length`` characters of texts."""
        found: dict[int, str] = {}
        places = np.unique(places)
        for low in range(0, len(places), self.at_once):
            texts = self.raw(places[low : low + self.at_once], by)
            found |= {place: text[:length] for place, text in texts.items()}
        return found

    def similarity(self, first: Places, second: Places, by: ComparedBy) -> NDArray[np.float64]:
        """Jaccard similarity of the texts of pairs: [pairs]."""
        size = max(1, self.at_once // 2)
        parts = [
            self._similarity(first[low : low + size], second[low : low + size], by)
            for low in range(0, len(first), size)
        ]
        return np.concatenate([np.zeros(0), *parts])

    def _similarity(self, first: Places, second: Places, by: ComparedBy) -> NDArray[np.float64]:
        texts = self.raw(np.concatenate([first, second]), by)
        found: list[float] = []
        for low in range(0, len(first), _GRAM_SETS):
            pairs = list(
                zip(first[low : low + _GRAM_SETS], second[low : low + _GRAM_SETS], strict=True)
            )
            places = sorted({int(place) for pair in pairs for place in pair})
            grams = gram_sets([_as_compared(texts[place], by) for place in places])
            by_place = dict(zip(places, grams, strict=True))
            found += [jaccard(by_place[int(a)], by_place[int(b)]) for a, b in pairs]
        return np.array(found)


def _as_compared(text: str, by: ComparedBy) -> str:
    """``text`` as its keys were made from it."""
    return compared_texts(text, "")[0] if by == "prompt" else compared_texts("", text)[1]
