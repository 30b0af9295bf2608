"""The name that someone probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# Shorter beginnings fit too many names.
_SHORTEST = 3


def nearest_name(given: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that ``given`` is probably a slip of, or None.

    Tried in order: another spelling (``Learning-Rate``), a slip (``learning_rte``), a longer or
    shorter form (``steps`` for ``max_steps``), initials (``lr``).
    """
    by_spelling: dict[str, str] = {}
    for name in names:
        by_spelling.setdefault(_spelling(name), name)
    wanted = _spelling(given)
    if wanted in by_spelling:
        return by_spelling[wanted]
    found = get_close_matches(wanted, by_spelling, n=1, cutoff=0.7) or [
        name for name in by_spelling if _is_form(wanted, name) or _initials(name) == wanted
    ]
    return by_spelling[found[0]] if found else None


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """``"Did you mean x?"`` to end a message with, or nothing where no name is near."""
    near = nearest_name(given, names)
    return f"Did you mean {near}?" if near else ""


def _spelling(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _is_form(one: str, other: str) -> bool:
    """Whether ``one`` is short for ``other`` (``eval``) or has more or fewer words."""
    words, others = set(one.rstrip("s").split("_")), set(other.rstrip("s").split("_"))
    shortened = min(len(one), len(other)) >= _SHORTEST and (
        one.startswith(other) or other.startswith(one)
    )
    return shortened or words <= others or others <= words


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split("_") if word)
