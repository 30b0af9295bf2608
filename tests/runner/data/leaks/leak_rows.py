"""Rows for tests of leaks: prompts of common words, and small edits of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from runner.data.leaks.leak_finder import FoundLeaks, LeakFinder
from runner.data.leaks.leak_texts import Prompt
from runner.data.leaks.near_duplicates import fingerprints
from runner.data.partition import SPLITS
from runner.recipe import Leaks

COMMON = (
    "time person year way day thing man world life hand part child eye woman place work week "
    "case point government company number group problem fact write read find count list sort "
    "add remove each every first last largest smallest between without function program query "
    "table order customer product price total average market farm apple orange basket train "
    "station hour minute speed distance money dollar cent book page student teacher class "
    "school garden flower tree river bridge house room window door kitchen recipe sugar flour "
    "water cup spoon bottle box ball game team player score goal ticket city street bus car "
    "road driver worker paint wall color red green blue yellow white black small large twice "
    "half third quarter more less than before after during while until if when where which how "
    "many much does will can should must give take make use keep leave bring buy sell pay cost "
    "earn save spend walk run drive ride fly swim the a an of to in for on with at by from and "
    "or but not his her their its "
)
WORDS = COMMON.split()

Row = tuple[str, str]


def prompt(chance: random.Random, least: int = 10, most: int = 45) -> str:
    """A text of random common words in a few sentences."""
    words = chance.choices(WORDS, k=chance.randint(least, most))
    for place in range(0, len(words), 12):
        words[place] = words[place].capitalize()
    return " ".join(words) + chance.choice(".?")


def rows(count: int, seed: int = 1) -> list[Row]:
    """Prompts with answers of about 200 characters."""
    chance = random.Random(seed)
    return [(prompt(chance), prompt(chance, 30, 40)) for _ in range(count)]


def _typo(text: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(text) - 2)
    return text[:at] + chance.choice("abcdefghijklmnopqrstuvwxyz") + text[at + 1 :]


def _swapped(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    at = chance.randrange(len(words) - 1)
    words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def _cased(text: str, chance: random.Random) -> str:
    return chance.choice((text.upper(), text.lower(), text.title()))


def _punctuated(text: str, chance: random.Random) -> str:
    at = chance.choice([i for i, letter in enumerate(text) if letter == " "])
    return text[:at] + chance.choice((",", ";", " -", "...")) + text[at:].rstrip(".?")


def _added(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    words.insert(chance.randrange(len(words)), chance.choice(("please", "really", "also")))
    return " ".join(words)


EDITS: tuple[Callable[[str, random.Random], str], ...] = (
    _typo, _swapped, _cased, _punctuated, _added,
)  # fmt: skip


def hash_codes(texts: Sequence[Row]) -> list[int]:
    """Partitions by content, 80/10/10."""
    points = [hashlib.sha256(repr(row).encode()).digest()[0] / 256 for row in texts]
    return [0 if point < 0.8 else 1 if point < 0.9 else 2 for point in points]


def find(
    texts: Sequence[Row],
    codes: Sequence[int],
    folder: Path,
    leaks: Leaks | None = None,
    extra: Mapping[str, Sequence[Prompt]] | None = None,
    contexts: Sequence[str] | None = None,
) -> FoundLeaks:
    """All leaks of rows whose numbers are their places."""
    leaks = leaks or Leaks()
    contexts = contexts or [""] * len(texts)
    finder = LeakFinder(leaks, folder)
    for low in range(0, len(texts), 1000):
        part = texts[low : low + 1000]
        finder.add(
            np.arange(low, low + len(part)),
            np.array(codes[low : low + 1000], dtype=np.int8),
            fingerprints(
                [q for q, _ in part], [a for _, a in part], contexts[low : low + 1000], leaks
            ),
        )

    def read(numbers: Sequence[int]) -> list[Row]:
        assert list(numbers) == sorted(set(numbers))
        return [texts[number] for number in numbers]

    found = finder.find(read, extra=extra)
    assert not list(folder.iterdir()), "scratch files are left behind"
    return found


def counted(found: FoundLeaks, kind: str, by: str, first: str, second: str) -> tuple[int, int, int]:
    """Pairs and rows of both sides."""
    (count,) = (
        c
        for c in found.report.counts
        if (c.kind, c.by, c.first, c.second) == (kind, by, first, second)
    )
    return count.pairs, count.first_rows, count.second_rows


assert SPLITS == ("train", "validation", "test")
