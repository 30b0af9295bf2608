"""What preparing listed: rows that broke a rule, and pairs of rows that say the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.leaks.leak_report import PAIRS_FILE
from runner.data.prepared_data import PROBLEMS_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedProblem:
    """A source row and a rule that it breaks; ``text`` holds its values as JSON, cut.

    ``place`` is file and line, or empty; ``outcome`` is dropped, kept or cut; ``tokens`` the length
    before a cut, or 0.
    """

    row: int
    place: str
    partition: str
    rule: str
    outcome: str
    detail: str
    tokens: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSide:
    """One of two rows that say the same."""

    partition: str
    row: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPair:
    """Two rows that say the same, ``by`` their prompts or answers."""

    kind: str
    by: str
    similarity: float
    first: PairSide
    second: PairSide


def read_problems(folder: Path) -> tuple[ListedProblem, ...]:
    """All listed problems of prepared data, by row."""
    from pyarrow import parquet

    values = parquet.read_table(folder / PROBLEMS_FILE).to_pylist()
    return tuple(
        sorted((ListedProblem(**v) for v in values), key=lambda found: (found.row, found.rule))
    )


def read_pairs(folder: Path) -> tuple[ListedPair, ...]:
    """All listed pairs, the gravest first."""
    from pyarrow import parquet

    values = parquet.read_table(folder / PAIRS_FILE).to_pylist()
    return tuple(sorted(map(_pair, values), key=_gravest_first))


def _gravest_first(pair: ListedPair) -> tuple[str, bool, float]:
    """Exact before near, prompts before answers, then the most similar."""
    return pair.kind, pair.by != "prompt", -pair.similarity


def _pair(values: Mapping[str, Any]) -> ListedPair:
    return ListedPair(
        kind=values["kind"],
        by=values["by"],
        similarity=values["similarity"],
        first=_side(values, "first"),
        second=_side(values, "second"),
    )


def _side(values: Mapping[str, Any], side: str) -> PairSide:
    return PairSide(
        partition=values[f"{side}_partition"],
        row=values[f"{side}_row"],
        text=values[f"{side}_text"],
    )
