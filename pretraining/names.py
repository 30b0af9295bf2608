"""Names of functions, parameters and variables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from pretraining.kinds import Kind, listed

PARAMETERS: dict[Kind, tuple[str, ...]] = {
    Kind.NUMBER: ("n", "number", "x", "value", "a", "amount", "level"),
    Kind.COUNT: ("n", "size", "limit", "number", "start", "top"),
    Kind.NUMBERS: ("numbers", "values", "nums", "data", "scores", "xs", "prices", "ages"),
    Kind.TEXT: ("text", "s", "line", "sentence", "message", "phrase"),
    Kind.WORDS: ("words", "names", "tokens", "labels", "strings", "tags"),
    Kind.TABLE: ("table", "stock", "counts", "ages", "prices", "points"),
}
VARIABLES: dict[Kind, tuple[str, ...]] = {
    Kind.NUMBER: ("x", "n", "v", "value", "num", "i", "k"),
    Kind.WORD: ("w", "word", "s", "name", "item", "t"),
    Kind.CHARACTER: ("c", "ch", "letter", "char"),
}
_VERBS = listed(
    """
    get find compute make pick build collect solve process scan handle check take fetch
    derive transform convert evaluate prepare produce extract
    """
)
_QUALITIES = listed(
    """
    final best new special clean short total main simple next wanted inner fixed good marked
    plain mixed strict
    """
)
_NOUNS = listed(
    """
    values result items score data answer list numbers words parts output entries report
    figure text code line total rank step key
    """
)


class Scope:
    """The names in use inside one function, so that no variable hides another."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def pick(self, rng: Random, choices: Sequence[str]) -> str:
        """One of ``choices`` that is not in use yet; it is in use from now on."""
        free = [name for name in choices if name not in self._taken]
        name = rng.choice(free) if free else f"{choices[0]}{len(self._taken)}"
        self._taken.add(name)
        return name


def function_name(rng: Random, hints: Sequence[str]) -> str:
    """A snake-case name, built of ``hints`` (words that fit the function) or of general words."""
    shape = rng.random()
    if shape < 0.35:
        return "_".join((rng.choice(hints), rng.choice(_NOUNS)))
    if shape < 0.6:
        return "_".join((rng.choice(_VERBS), rng.choice(hints)))
    if shape < 0.75:
        return "_".join((rng.choice(_VERBS), rng.choice(_NOUNS)))
    if shape < 0.9:
        return "_".join((rng.choice(_VERBS), rng.choice(_QUALITIES), rng.choice(_NOUNS)))
    return f"{rng.choice((*_VERBS, *_NOUNS, 'f', 'g'))}{rng.randint(1, 99)}"


def parameter_names(rng: Random, kinds: Sequence[Kind], scope: Scope) -> tuple[str, ...]:
    """One name per parameter, fitting its kind."""
    return tuple(scope.pick(rng, PARAMETERS[kind]) for kind in kinds)
