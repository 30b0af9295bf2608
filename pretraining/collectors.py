"""Collectors: what becomes of the elements of a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import mul

from pretraining.kinds import Kind, Value

_NUMBER, _WORD, _CHARACTER = Kind.NUMBER, Kind.WORD, Kind.CHARACTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """What becomes of the elements. ``{gen}`` is a generator, ``{seq}`` a list, ``{0}`` a constant.

    ``update`` holds the lines of a loop's body, with ``{acc}`` the accumulator and ``{x}`` the
    element. ``fold`` is the recursive step with ``{rest}`` the result for the remaining elements.
    """

    name: str
    takes: tuple[Kind, ...]
    nouns: tuple[str, ...]
    results: tuple[str, ...]
    code: tuple[str, ...]
    start: str = ""
    update: tuple[str, ...] = ()
    end: str = "{acc}"
    accumulators: tuple[str, ...] = ("result", "out", "found")
    fold: str = ""
    hints: tuple[str, ...] = ("select",)
    constants: tuple[Value, ...] = ()
    means: Callable[..., Value]


_ANY = (_NUMBER, _WORD, _CHARACTER)
_STRINGS = (_WORD, _CHARACTER)

COLLECTORS: tuple[Collector, ...] = (
    Collector(
        name="list",
        takes=_ANY,
        nouns=("a list of",),
        results=("them as a list", "the list"),
        code=("{seq}",),
        start="[]",
        update=("{acc}.append({x})",),
        fold="[{x}] + {rest}",
        hints=("select", "keep", "list"),
        means=list,
    ),
    Collector(
        name="sum",
        takes=(_NUMBER,),
        nouns=("the sum of", "the total of"),
        results=("the sum", "their sum", "the total"),
        code=("sum({gen})",),
        start="0",
        update=("{acc} += {x}",),
        fold="{x} + {rest}",
        accumulators=("total", "result", "acc"),
        hints=("sum", "add", "total"),
        means=sum,
    ),
    Collector(
        name="product",
        takes=(_NUMBER,),
        nouns=("the product of",),
        results=("the product", "their product"),
        code=(),
        start="1",
        update=("{acc} *= {x}",),
        fold="{b} * {rest}",
        accumulators=("product", "result", "acc"),
        hints=("multiply", "product"),
        means=lambda xs: reduce(mul, xs, 1),
    ),
    Collector(
        name="count",
        takes=_ANY,
        nouns=("the number of", "the count of"),
        results=("how many there are", "their number"),
        code=("len({seq})",),
        start="0",
        update=("{acc} += 1",),
        fold="1 + {rest}",
        accumulators=("count", "total", "hits"),
        hints=("count", "number"),
        means=lambda xs: len(list(xs)),
    ),
    Collector(
        name="max",
        takes=(_NUMBER,),
        nouns=("the largest (or {0} if there is none) of",),
        results=("the largest, or {0} if there is none",),
        constants=(0, -1, 1),
        code=("max({seq}, default={0})",),
        hints=("largest", "max"),
        means=lambda xs, k: max(xs, default=k),
    ),
    Collector(
        name="min",
        takes=(_NUMBER,),
        nouns=("the smallest (or {0} if there is none) of",),
        results=("the smallest, or {0} if there is none",),
        constants=(0, -1, 1),
        code=("min({seq}, default={0})",),
        hints=("smallest", "min"),
        means=lambda xs, k: min(xs, default=k),
    ),
    Collector(
        name="sorted",
        takes=(_NUMBER, _WORD),
        nouns=("a sorted list of",),
        results=("them sorted", "the sorted list"),
        code=("sorted({gen})",),
        hints=("sort", "order"),
        means=sorted,
    ),
    Collector(
        name="descending",
        takes=(_NUMBER,),
        nouns=("a list in descending order of",),
        results=("them in descending order",),
        code=("sorted({seq}, reverse=True)",),
        hints=("sort", "order"),
        means=lambda xs: sorted(xs, reverse=True),
    ),
    Collector(
        name="distinct",
        takes=_ANY,
        nouns=("the number of different values among",),
        results=("the number of different values",),
        code=("len(set({gen}))",),
        hints=("distinct", "unique"),
        means=lambda xs: len(set(xs)),
    ),
    Collector(
        name="first_few",
        takes=_ANY,
        nouns=("a list of the first {0} of",),
        results=("the first {0} of them",),
        code=("{seq}[:{0}]",),
        constants=(1, 2, 3, 4),
        hints=("first", "head"),
        means=lambda xs, k: list(xs)[:k],
    ),
    Collector(
        name="last_few",
        takes=_ANY,
        nouns=("a list of the last {0} of",),
        results=("the last {0} of them",),
        code=("{seq}[-{0}:]",),
        constants=(1, 2, 3, 4),
        hints=("last", "tail"),
        means=lambda xs, k: list(xs)[-k:],
    ),
    Collector(
        name="backwards",
        takes=_ANY,
        nouns=("a list in reverse order of",),
        results=("them in reverse order",),
        code=("{seq}[::-1]",),
        hints=("reverse", "flip"),
        means=lambda xs: list(xs)[::-1],
    ),
    Collector(
        name="join",
        takes=_STRINGS,
        nouns=("one string, joined by {0}, of",),
        results=("them joined by {0}",),
        code=("{0}.join({gen})",),
        constants=(", ", "-", "", " ", "+", "/"),
        hints=("join", "concat"),
        means=lambda xs, s: s.join(xs),
    ),
    Collector(
        name="longest",
        takes=(_WORD,),
        nouns=("the longest (or {0} if there is none) of",),
        results=("the longest, or {0} if there is none",),
        constants=("", "-", "none"),
        code=("max({seq}, key=len, default={0})",),
        hints=("longest", "long"),
        means=lambda xs, k: max(xs, key=len, default=k),
    ),
    Collector(
        name="tally",
        takes=_STRINGS,
        nouns=("a dictionary with the number of occurrences of",),
        results=("a dictionary that counts them", "how often each occurs as a dictionary"),
        code=(),
        start="{{}}",
        update=("{acc}[{x}] = {acc}.get({x}, 0) + 1",),
        accumulators=("counts", "table", "seen"),
        hints=("tally", "frequency"),
        means=lambda xs: dict(Counter(xs)),
    ),
    Collector(
        name="lengths",
        takes=(_WORD,),
        nouns=("a dictionary with the lengths of",),
        results=("a dictionary with their lengths",),
        code=(),
        start="{{}}",
        update=("{acc}[{x}] = len({x})",),
        accumulators=("lengths", "table", "sizes"),
        hints=("length", "sizes"),
        means=lambda xs: {x: len(x) for x in xs},
    ),
    Collector(
        name="by_length",
        takes=(_WORD,),
        nouns=("a dictionary that groups by length",),
        results=("a dictionary that groups them by length",),
        code=(),
        start="{{}}",
        update=("{acc}.setdefault(len({x}), []).append({x})",),
        accumulators=("groups", "table", "by_length"),
        hints=("group", "by_length"),
        means=lambda xs: _grouped(xs, len),
    ),
    Collector(
        name="by_remainder",
        takes=(_NUMBER,),
        nouns=("a dictionary that groups by the remainder modulo {0}",),
        constants=(2, 3, 4, 5),
        results=("a dictionary that groups them by their remainder modulo {0}",),
        code=(),
        start="{{}}",
        update=("{acc}.setdefault({b} % {0}, []).append({x})",),
        accumulators=("groups", "table", "classes"),
        hints=("group", "classes"),
        means=lambda xs, k: _grouped(xs, lambda x: x % k),
    ),
    Collector(
        name="running",
        takes=(_NUMBER,),
        nouns=("the list of running totals of",),
        results=("the list of running totals",),
        code=(),
        start="[]",
        update=("{acc}.append({x} + ({acc}[-1] if {acc} else 0))",),
        hints=("running", "cumulate"),
        means=lambda xs: list(accumulate(xs)),
    ),
)
COLLECTOR_WEIGHTS = (6, 6, 2, 4, 3, 3, 3, 2, 2, 2, 1, 2, 4, 2, 2, 1, 2, 1, 1)


def _grouped(
    elements: Iterable[Value], label: Callable[[Value], Value]
) -> dict[Value, list[Value]]:
    groups: dict[Value, list[Value]] = {}
    for element in elements:
        groups.setdefault(label(element), []).append(element)
    return groups
