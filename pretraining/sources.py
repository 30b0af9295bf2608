"""Sources: where the elements of a stream come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from pretraining.kinds import Kind, Value

_NUMBER, _WORD, _CHARACTER = Kind.NUMBER, Kind.WORD, Kind.CHARACTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where elements come from: ``says`` is a plural noun, ``iterable`` and ``element`` are code.

    ``{0}``, ``{1}`` are the parameters' names, ``{v}`` and ``{u}`` the loop variables.
    ``variable`` is the loop variable's kind where it is not the element's.
    """

    name: str
    parameters: tuple[Kind, ...]
    gives: Kind
    says: tuple[str, ...]
    iterable: str
    target: str = "{v}"
    element: str = "{v}"
    variable: Kind | None = None
    means: Callable[..., Iterable[Value]]


SOURCES: tuple[Source, ...] = (
    Source(
        name="numbers",
        parameters=(Kind.NUMBERS,),
        gives=_NUMBER,
        iterable="{0}",
        says=("the numbers in {0}", "the elements of {0}", "the numbers of the list {0}"),
        means=lambda xs: xs,
    ),
    Source(
        name="up_to",
        parameters=(Kind.COUNT,),
        gives=_NUMBER,
        iterable="range(1, {0} + 1)",
        says=("the numbers from 1 to {0}",),
        means=lambda n: range(1, n + 1),
    ),
    Source(
        name="below",
        parameters=(Kind.COUNT,),
        gives=_NUMBER,
        iterable="range({0})",
        says=("the numbers from 0 up to but not including {0}", "the numbers in range({0})"),
        means=range,
    ),
    Source(
        name="digits",
        parameters=(Kind.COUNT,),
        gives=_NUMBER,
        iterable="str({0})",
        element="int({v})",
        variable=_CHARACTER,
        says=("the digits of {0}",),
        means=lambda n: map(int, str(n)),
    ),
    Source(
        name="table_values",
        parameters=(Kind.TABLE,),
        gives=_NUMBER,
        iterable="{0}.values()",
        says=("the values of {0}", "the values in the dictionary {0}"),
        means=lambda table: table.values(),
    ),
    Source(
        name="pair_products",
        parameters=(Kind.NUMBERS, Kind.NUMBERS),
        gives=_NUMBER,
        iterable="zip({0}, {1})",
        target="{u}, {v}",
        element="{u} * {v}",
        says=("the products of the pairs from {0} and {1}",),
        means=lambda xs, ys: [x * y for x, y in zip(xs, ys, strict=False)],
    ),
    Source(
        name="pair_differences",
        parameters=(Kind.NUMBERS, Kind.NUMBERS),
        gives=_NUMBER,
        iterable="zip({0}, {1})",
        target="{u}, {v}",
        element="{u} - {v}",
        says=("the elements of {0} minus those of {1}",),
        means=lambda xs, ys: [x - y for x, y in zip(xs, ys, strict=False)],
    ),
    Source(
        name="steps",
        parameters=(Kind.NUMBERS,),
        gives=_NUMBER,
        iterable="zip({0}, {0}[1:])",
        target="{u}, {v}",
        element="{v} - {u}",
        says=("the differences between neighbours in {0}",),
        means=lambda xs: [y - x for x, y in pairwise(xs)],
    ),
    Source(
        name="weighted",
        parameters=(Kind.NUMBERS,),
        gives=_NUMBER,
        iterable="enumerate({0})",
        target="{u}, {v}",
        element="{u} * {v}",
        says=("the products of number and index in {0}",),
        means=lambda xs: [i * x for i, x in enumerate(xs)],
    ),
    Source(
        name="lookups",
        parameters=(Kind.WORDS, Kind.TABLE),
        gives=_NUMBER,
        iterable="{0}",
        element="{1}.get({v}, 0)",
        variable=_WORD,
        says=("the values in {1} for {0} (0 where missing)",),
        means=lambda words, table: [table.get(word, 0) for word in words],
    ),
    Source(
        name="words",
        parameters=(Kind.WORDS,),
        gives=_WORD,
        iterable="{0}",
        says=("the words in {0}", "the strings in {0}", "the words of the list {0}"),
        means=lambda words: words,
    ),
    Source(
        name="split",
        parameters=(Kind.TEXT,),
        gives=_WORD,
        iterable="{0}.split()",
        says=("the words of {0}", "the words in the text {0}"),
        means=str.split,
    ),
    Source(
        name="table_keys",
        parameters=(Kind.TABLE,),
        gives=_WORD,
        iterable="{0}",
        says=("the keys of {0}", "the keys of the dictionary {0}"),
        means=lambda table: table,
    ),
    Source(
        name="characters",
        parameters=(Kind.TEXT,),
        gives=_CHARACTER,
        iterable="{0}",
        says=("the characters of {0}", "the characters in {0}"),
        means=lambda text: text,
    ),
)
SOURCE_WEIGHTS = (6, 2, 1, 1, 2, 1, 1, 1, 1, 1, 5, 3, 1, 4)
