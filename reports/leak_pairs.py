"""Rows that occur in more than one partition: how many pairs, and some of them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.example_values import read_columns
from reports.exhibits import Table, names
from reports.number_text import count, counted, fixed
from reports.run_records import LeakCountRecord, LeakRecord
from reports.sample_view import Pane, shortened

# The file in ``listings/`` of a run, and beside prepared data in the cache.
PAIRS_FILE = "leaks.parquet"
MOST_PAIRS = 60
_SIDES = ("first", "second")
_OF_SIDE = ("partition", "row", "text")
_COLUMNS = ("kind", "by", "similarity", *(f"{s}_{name}" for s in _SIDES for name in _OF_SIDE))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSide:
    """One of two rows that say the same; ``row`` counts from 0 in the source."""

    partition: str
    row: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakPair:
    """Two rows that say the same: ``kind`` exact or near, ``by`` prompt or answer."""

    kind: str
    by: str
    similarity: float
    first: PairSide
    second: PairSide


@dataclass(frozen=True, slots=True, kw_only=True)
class PairView:
    """A pair as a page shows it."""

    heading: str
    note: str
    panes: tuple[Pane, Pane]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakPairsView:
    """The leaks of a page; ``counts`` is None where no pair was found."""

    summary: str
    counts: Table | None
    pairs: tuple[PairView, ...]
    more: str


def read_pairs(folder: Path) -> tuple[LeakPair, ...]:
    """The pairs listed in ``folder``, the gravest first; none where nothing was listed.

    Raises:
        ReportError: the list is damaged.
    """
    path = folder / PAIRS_FILE
    if not path.is_file():
        return ()
    columns = read_columns(path, _COLUMNS)
    rows = (
        dict(zip(_COLUMNS, values, strict=True))
        for values in zip(*(columns[name] for name in _COLUMNS), strict=True)
    )
    return tuple(sorted(map(_pair, rows), key=_gravest_first))


def _gravest_first(pair: LeakPair) -> tuple[str, bool, float]:
    """Exact before near, prompts before answers, then the most similar."""
    return pair.kind, pair.by != "prompt", -pair.similarity


def _pair(values: Mapping[str, Any]) -> LeakPair:
    first, second = (
        PairSide(**{name: values[f"{side}_{name}"] for name in _OF_SIDE}) for side in _SIDES
    )
    return LeakPair(
        kind=values["kind"],
        by=values["by"],
        similarity=values["similarity"],
        first=first,
        second=second,
    )


def leak_pairs_view(leaks: LeakRecord, pairs: tuple[LeakPair, ...]) -> LeakPairsView:
    """Counts and the first pairs."""
    shown = pairs[:MOST_PAIRS]
    missing = max(leaks.listed, len(pairs)) - len(shown)
    return LeakPairsView(
        summary=_summary(leaks),
        counts=_count_table(leaks),
        pairs=tuple(map(_pair_view, shown)),
        more=f"{counted(missing, 'more pair')} listed in {PAIRS_FILE}." if missing else "",
    )


def _summary(leaks: LeakRecord) -> str:
    compared = ", ".join(f"{rows:,} {name}" for name, rows in leaks.compared.items())
    words = [f"Compared: {compared or 'nothing'}."]
    found = sum(leak.pairs for leak in leaks.counts)
    words.append(f"{counted(found, 'pair')} found." if found else "No pair was found.")
    if leaks.unsettled:
        words.append(
            f"{counted(sum(leaks.unsettled.values()), 'row')} resembled too many others to be "
            "compared with all, and count as leaks."
        )
    if leaks.dropped:
        words.append(f"{counted(leaks.dropped, 'row')} left out of train for it.")
    return " ".join(words)


def _count_table(leaks: LeakRecord) -> Table | None:
    found = [leak for leak in leaks.counts if leak.pairs]
    if not found:
        return None
    return Table(
        caption="Pairs of rows that say the same",
        columns=names("Kind", "By", "First", "Second", "#Pairs", "#First rows", "#Second rows",
                      "Policy"),
        rows=tuple(
            (
                leak.kind, leak.by, leak.first, leak.second, _pairs(leak),
                count(leak.first_rows), count(leak.second_rows), leak.policy,
            )
            for leak in found
        ),
    )  # fmt: skip


def _pairs(leak: LeakCountRecord) -> str:
    return f"at least {count(leak.pairs)}" if leak.at_least else count(leak.pairs)


def _pair_view(pair: LeakPair) -> PairView:
    sides = (pair.first, pair.second)
    return PairView(
        heading=" and ".join(f"{side.partition} row {side.row}" for side in sides),
        note=f"{pair.kind}, by {pair.by}, similarity {fixed(pair.similarity, 2)}",
        panes=(_pane(pair.first), _pane(pair.second)),
    )


def _pane(side: PairSide) -> Pane:
    return Pane(
        heading=f"{side.partition} row {side.row}",
        class_="pair",
        text=shortened(side.text),
        note="",
    )
