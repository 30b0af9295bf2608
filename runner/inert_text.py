"""Text that a terminal shows and does not obey: names and rows of others are in our messages."""

from __future__ import annotations

import re

# Controls that a terminal obeys, and those that turn the direction of text or break a line.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)


def inert(text: str) -> str:
    """``text`` without characters that a terminal would obey: those are spelt out.

    Tabs and newlines stay.
    """
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)
