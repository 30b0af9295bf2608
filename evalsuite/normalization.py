"""Texts brought to one form before they are compared, as far as a recipe declares it."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Collection
from decimal import Decimal

# What a recipe may declare, in the order in which it is done.
IGNORABLE = ("case", "number_format", "punctuation", "articles", "whitespace")

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# A number that stands by itself: not inside a word, a version (1.2.3) or a date (1.2.2024).
_NUMBER = re.compile(
    r"(?<![\w.,])(?:(?<![)\]])[-\N{MINUS SIGN}])?"
    r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?![\w]|[.,]\d)"
)


def normalized(text: str, ignore: Collection[str] = ()) -> str:
    """``text`` in Unicode's composed form (NFC) without white space at its ends, and more.

    Args:
        text: Any text.
        ignore: What to leave out of account, of ``IGNORABLE``. ``case``: lower case.
            ``number_format``: 1,000 and 1000.0 are 1000. ``punctuation``: ASCII punctuation is
            removed, but not inside numbers that ``number_format`` knows. ``articles``: a, an and
            the are removed. ``whitespace``: runs of white space are one space. All but
            ``number_format`` together are the normalization of SQuAD (Rajpurkar et al. 2016).
    """
    text = unicodedata.normalize("NFC", text)
    if "case" in ignore:
        text = text.lower()
    text = _without_marks(text, ignore)
    if "articles" in ignore:
        text = _ARTICLES.sub(" ", text)
    if "whitespace" in ignore:
        text = " ".join(text.split())
    return text.strip()


def _without_marks(text: str, ignore: Collection[str]) -> str:
    """Numbers in their plain form, and what is between them without punctuation."""

    def between(part: str) -> str:
        return part.translate(_PUNCTUATION) if "punctuation" in ignore else part

    if "number_format" not in ignore:
        return between(text)
    parts, end = [], 0
    for found in _NUMBER.finditer(text):
        parts += [between(text[end : found.start()]), plain_number(found.group())]
        end = found.end()
    return "".join([*parts, between(text[end:])])


def plain_number(text: str) -> str:
    """A decimal number without thousands' commas, leading zeros, or zeros after its decimals.

    Raises:
        decimal.InvalidOperation: ``text`` is no number.
    """
    number = Decimal(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))
    if number == 0:
        return "0"
    plain = f"{number:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
