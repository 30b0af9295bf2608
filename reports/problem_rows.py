"""Rows that broke a rule, one by one, as preparing the data listed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path

from reports.example_values import read_columns
from reports.exhibits import Table, names
from reports.number_text import NOTHING, count
from reports.visible_text import one_line, visible, without_paths

# The file in ``listings/`` of a run, and beside prepared data in the cache.
PROBLEMS_FILE = "problems.parquet"
_COLUMNS = ("row", "place", "partition", "rule", "outcome", "detail", "tokens", "text")
_DETAIL = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemRow:
    """A source row that broke a rule; ``row`` counts from 0.

    ``place`` is file and line, or empty. ``outcome`` is dropped, kept or cut. ``tokens`` is the
    length before a cut, or 0. ``text`` holds the row's values as JSON, shortened.
    """

    row: int
    place: str
    partition: str
    rule: str
    outcome: str
    detail: str
    tokens: int
    text: str


def read_problems(folder: Path) -> tuple[ProblemRow, ...]:
    """The problems listed in ``folder``, by row; none where nothing was listed.

    Raises:
        ReportError: the list is damaged.
    """
    path = folder / PROBLEMS_FILE
    if not path.is_file():
        return ()
    columns = read_columns(path, _COLUMNS)
    rows = (
        ProblemRow(**dict(zip(_COLUMNS, values, strict=True)))
        for values in zip(*(columns[name] for name in _COLUMNS), strict=True)
    )
    return tuple(sorted(rows, key=lambda problem: (problem.row, problem.rule)))


def some_of_each_rule(problems: Sequence[ProblemRow], most: int) -> list[ProblemRow]:
    """At most ``most`` problems, in turn the next of each rule, by row."""
    by_rule: dict[str, list[ProblemRow]] = {}
    for problem in problems:
        by_rule.setdefault(problem.rule, []).append(problem)
    in_turn = chain.from_iterable(zip_longest(*by_rule.values()))
    chosen = islice((problem for problem in in_turn if problem is not None), most)
    return sorted(chosen, key=lambda problem: (problem.row, problem.rule))


def problem_table(problems: Sequence[ProblemRow], *, most: int) -> Table:
    """``most`` problems as a table, some of each rule."""
    return Table(
        caption="Rows that broke a rule; source rows count from 0",
        columns=names("#Source row", "Place", "Partition", "`Rule", "What", "Why", "#Tokens"),
        rows=tuple(
            (
                str(problem.row),
                visible(without_paths(problem.place)) or NOTHING,
                problem.partition or NOTHING,
                problem.rule,
                problem.outcome,
                one_line(without_paths(problem.detail), _DETAIL),
                count(problem.tokens) if problem.tokens else NOTHING,
            )
            for problem in some_of_each_rule(problems, most)
        ),
    )
