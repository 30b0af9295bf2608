"""Where two JSON values differ, in words for a user."""

from __future__ import annotations

import math
from collections.abc import Iterable

# Another machine's sums may round otherwise in the last digits; nothing else may differ.
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12
_LONGEST = 60


def first_difference(stored: object, again: object, place: str = "") -> str | None:
    """The first place where ``stored`` is not ``again``; None where they agree.

    Numbers may differ in their last digits. An object with a ``metric`` is named by it, and by its
    ``subject``, instead of by its number in the list.
    """
    if isinstance(stored, dict) and isinstance(again, dict) and stored.keys() == again.keys():
        named = _named(stored, place)
        return _first((stored[key], again[key], f"{named}.{key}".lstrip(".")) for key in stored)
    if isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        pairs = enumerate(zip(stored, again, strict=True))
        return _first((first, second, f"{place}[{i}]") for i, (first, second) in pairs)
    if stored == again or _nearly(stored, again):
        return None
    return f"{place} is {_short(stored)} but must be {_short(again)}"


def _first(triples: Iterable[tuple[object, object, str]]) -> str | None:
    found = (first_difference(*triple) for triple in triples)
    return next((place for place in found if place is not None), None)


def _named(value: dict[str, object], place: str) -> str:
    if not isinstance(value.get("metric"), str):
        return place
    return " of the ".join(str(value[key]) for key in ("metric", "subject") if key in value)


def _nearly(stored: object, again: object) -> bool:
    if not (isinstance(stored, float) and isinstance(again, float)):
        return False
    return math.isclose(stored, again, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
