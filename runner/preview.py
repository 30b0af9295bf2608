"""What ``proofbox preview`` shows of prepared data, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

from runner.data.prepared_data import PreparedData
from runner.errors import UsageError
from runner.preview_listings import ListedPair, ListedProblem
from runner.preview_rows import PreviewRow, RowReader
from runner.preview_rules import style_of
from runner.preview_text import HEADING, WARNING, Screen, print_row, row_heading

# Rows of the page: the first of all partitions together, and rows with a problem.
PAGE_ROWS = 50
PAGE_PROBLEM_ROWS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Prepared data with what was listed of it, and the reader of its rows."""

    data: PreparedData
    vocabulary: int
    reader: RowReader
    problems: tuple[ListedProblem, ...]
    pairs: tuple[ListedPair, ...]

    def problems_of(self, row: int) -> list[ListedProblem]:
        """What is wrong with a source row, as far as it is listed."""
        return [problem for problem in self.problems if problem.row == row]

    @property
    def refused(self) -> bool:
        """Whether a run would stop: a rule or a leak whose policy is error."""
        broken = any(rule.violations and rule.policy == "error" for rule in self.data.rules)
        return broken or bool(self.data.leaks.refused)


def print_first(screen: Screen, shown: Shown, partition: str, rows: int) -> None:
    """The first examples of a partition."""
    for example in shown.reader.first(partition, rows):
        print_example(screen, example, shown.problems_of(example.row))
        screen.line()


def print_example(screen: Screen, example: PreviewRow, problems: Sequence[ListedProblem]) -> None:
    """An example under its numbers and what is wrong with it."""
    screen.line(row_heading(example), HEADING)
    for problem in problems:
        detail = f": {problem.detail}" if problem.detail else ""
        screen.wrapped(f"! {problem.rule} ({problem.outcome}){detail}", style=WARNING)
    print_row(screen, example)


def print_one(
    screen: Screen, shown: Shown, row: int, explain: Callable[[], Sequence[ListedProblem]]
) -> bool:
    """One source row: as the example that it became, or why it became none.

    ``explain`` finds out what the lists do not tell. Gives whether it became an example.

    Raises:
        UsageError: there is no such row.
    """
    last = shown.data.source_rows - 1
    if row > last:
        raise UsageError(f"--row {row}: the source has {last + 1:,} rows, numbered 0 to {last}")
    example = shown.reader.numbered([row]).get(row)
    if example is not None:
        print_example(screen, example, shown.problems_of(row))
    else:
        _print_left_out(screen, shown, row, explain)
    screen.line()
    return example is not None


def _print_left_out(
    screen: Screen, shown: Shown, row: int, explain: Callable[[], Sequence[ListedProblem]]
) -> None:
    dropped = [problem for problem in shown.problems_of(row) if problem.outcome == "dropped"]
    twins = [p for p in shown.pairs if p.first.partition == "train" and p.first.row == row]
    if not dropped and twins:
        screen.line(f"row {row} (train): left out", HEADING)
        for pair in twins:
            like = f"{pair.second.partition} row {pair.second.row}"
            screen.wrapped(f"! leak: {pair.kind}, by {pair.by}, with {like}", style=WARNING)
        screen.line(twins[0].first.text)
        return
    policies = {rule.rule: rule.policy for rule in shown.data.rules}
    found = dropped or explain()
    where = ", ".join(part for part in (found[0].partition, found[0].place) if part)
    screen.line(f"row {row} ({where}): left out" if where else f"row {row}: left out", HEADING)
    for problem in found:
        what = ": ".join(part for part in (problem.rule, problem.detail) if part)
        screen.wrapped(f"! {what}", style=style_of(policies.get(problem.rule, "")))
    screen.line(found[0].text)


def page_rows(shown: Shown, rows: int | None) -> list[PreviewRow | ListedProblem]:
    """Rows for the page: the first of each partition, then others that are listed with a problem.

    ``rows`` are of each partition; None: PAGE_ROWS shared among them. A row that became no example
    is given as its first problem.
    """
    names = list(shown.data.partitions)
    each = rows or -(-PAGE_ROWS // max(1, len(names)))
    first = [row for name in names for row in shown.reader.first(name, each)]
    chosen = _problem_rows(shown.problems, {row.row for row in first})
    examples = shown.reader.numbered(chosen)
    return [*first, *(examples.get(number, problem) for number, problem in chosen.items())]


def _problem_rows(
    problems: Sequence[ListedProblem], there: Collection[int]
) -> dict[int, ListedProblem]:
    """Rows with their first problem, in turn the next of each rule, by row."""
    by_rule: dict[str, list[ListedProblem]] = {}
    for problem in problems:
        if problem.row not in there:
            by_rule.setdefault(problem.rule, []).append(problem)
    in_turn = chain.from_iterable(zip_longest(*by_rule.values()))
    rows = dict.fromkeys(problem.row for problem in in_turn if problem is not None)
    chosen = sorted(islice(rows, PAGE_PROBLEM_ROWS))
    first = {problem.row: problem for problem in reversed(problems)}
    return {row: first[row] for row in chosen}
