"""Rendered rows of the preview page, within a page's room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.number_text import counted
from reports.problem_rows import ProblemRow
from reports.rendered_tokens import TokenRun, shortened_runs
from reports.run_records import ExampleToken
from reports.sample_view import MOST_CHARACTERS, shortened
from reports.visible_text import one_line, visible, without_paths

# Tokens shown of one row from its beginning and its end, and of all rows of a page together:
# about 20 bytes a token.
FIRST_TOKENS = 700
LAST_TOKENS = 300
MOST_TOKENS = 80_000
# Text in the room of one token with its element.
_CHARACTERS_PER_TOKEN = 20
_SUMMARY = 110
_DETAIL = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRow:
    """A source row: with its tokens where it became an example, else with its values as text."""

    row: int
    partition: str
    place: str
    tokens: tuple[ExampleToken, ...]
    prompt_tokens: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRemark:
    """A rule that a row broke, what happened to the row, and the detail."""

    rule: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """A row as the page shows it; ``state`` is a word for the list: fine, kept, cut or dropped."""

    row: int
    place: str
    partition: str
    state: str
    summary: str
    size: str
    remarks: tuple[RowRemark, ...]
    tokens: tuple[TokenRun, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowList:
    """The rows that the page has room for; ``left_out`` says how many it has not."""

    rows: tuple[RowView, ...]
    left_out: str


def row_views(rows: Sequence[PreviewRow], problems: Sequence[ProblemRow]) -> RowList:
    """The rows with what is wrong with them, in their order, as far as there is room."""
    by_row: dict[int, list[ProblemRow]] = {}
    for problem in problems:
        by_row.setdefault(problem.row, []).append(problem)
    shown = [_row_view(row, by_row) for row in rows[: _fitting(rows)]]
    missing = len(rows) - len(shown)
    left_out = (
        f"{counted(missing, 'more row')} left out to keep this page small." if missing else ""
    )
    return RowList(rows=tuple(shown), left_out=left_out)


def _fitting(rows: Sequence[PreviewRow]) -> int:
    """How many of the first rows fit together."""
    room = MOST_TOKENS
    for number, row in enumerate(rows):
        room -= min(len(row.tokens), FIRST_TOKENS + LAST_TOKENS)
        room -= min(len(row.text), MOST_CHARACTERS) // _CHARACTERS_PER_TOKEN
        if room < 0:
            return number
    return len(rows)


def _row_view(row: PreviewRow, problems: Mapping[int, Sequence[ProblemRow]]) -> RowView:
    own = problems.get(row.row, ())
    return RowView(
        row=row.row,
        place=visible(without_paths(row.place)),
        partition=row.partition or "none",
        state=_state(own),
        summary=one_line("".join(t.text for t in row.tokens[:_SUMMARY]) or row.text, _SUMMARY),
        size=_size(row),
        remarks=tuple(_remark(problem) for problem in own),
        tokens=shortened_runs(row.tokens, first=FIRST_TOKENS, last=LAST_TOKENS),
        text=shortened(row.text),
    )


def _state(problems: Sequence[ProblemRow]) -> str:
    outcomes = {problem.outcome for problem in problems}
    return next((name for name in ("dropped", "cut", "kept") if name in outcomes), "fine")


def _size(row: PreviewRow) -> str:
    if not row.tokens:
        return "no tokens"
    supervised = sum(token.supervised for token in row.tokens)
    return f"{counted(len(row.tokens), 'token')}, {supervised:,} supervised"


def _remark(problem: ProblemRow) -> RowRemark:
    detail = one_line(without_paths(problem.detail), _DETAIL)
    return RowRemark(rule=problem.rule, outcome=problem.outcome, detail=detail)
