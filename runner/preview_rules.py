"""The label contract and leaks in the terminal: every rule, who broke it, pairs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from runner.data.leaks.leak_report import LeakCount
from runner.data.prepared_data import PreparedData, RuleOutcome
from runner.preview_listings import ListedPair, ListedProblem, PairSide
from runner.preview_text import ERROR, HEADING, WARNING, Screen, counted, one_line

SHOWN_ROWS = 5  # of each broken rule
SHOWN_PAIRS = 5
_TEXT = 240  # characters of a row's values
_PAIR_TEXT = 320
_HEADINGS = ("rule", "policy", "checked", "broken", "dropped")


def print_rules(
    screen: Screen,
    data: PreparedData,
    problems: Sequence[ListedProblem],
    pairs: Sequence[ListedPair],
) -> None:
    """The contract table, rows of each broken rule, and leaks."""
    screen.line(f"Rules, checked on {data.source_rows:,} rows (numbered from 0)", HEADING)
    screen.line(_table_line(*_HEADINGS))
    for rule in data.rules:
        _print_rule(screen, rule)
    for rule in data.rules:
        if rule.violations:
            _print_broken(screen, rule, [p for p in problems if p.rule == rule.rule])
    screen.line()
    _print_leaks(screen, data, pairs)


def style_of(policy: str) -> str:
    """How a policy that was needed is shown."""
    return ERROR if policy == "error" else WARNING


def _table_line(*cells: str) -> str:
    rule, policy, checked, broken, dropped = cells
    return f"  {rule:<21}  {policy:<15}  {checked:>11}  {broken:>9}  {dropped:>9}"


def _print_rule(screen: Screen, rule: RuleOutcome) -> None:
    numbers = (f"{n:,}" for n in (rule.rows_checked, rule.violations, rule.dropped))
    line = _table_line(rule.rule, rule.policy, *numbers)
    style = style_of(rule.policy) if rule.violations else ""
    screen.line(f"!{line[1:]}" if rule.violations else line, style)
    screen.wrapped(rule.text, indent=4, style="dim")
    if rule.violations:
        more = ", …" if rule.violations > len(rule.first_rows) else ""
        screen.wrapped(f"rows {', '.join(map(str, rule.first_rows))}{more}", indent=4, style=style)


def _print_broken(screen: Screen, rule: RuleOutcome, listed: Sequence[ListedProblem]) -> None:
    screen.line()
    rows = counted(rule.violations, "row")
    shown = listed[:SHOWN_ROWS]
    some = f", the first {len(shown)} of them" if rule.violations > len(shown) else ""
    screen.line(f"{rule.rule}: {rows}{some}", f"bold {style_of(rule.policy)}")
    for problem in shown:
        print_problem(screen, problem)


def print_problem(screen: Screen, problem: ListedProblem) -> None:
    """A row that broke a rule: where it is, what is wrong, what it says."""
    place = f" ({problem.place})" if problem.place else ""
    what = ", ".join(part for part in (problem.partition, problem.outcome) if part)
    screen.wrapped(f"row {problem.row}{place}: {what}", indent=2)
    if problem.detail:
        screen.wrapped(problem.detail, indent=4, style=WARNING)
    screen.wrapped(one_line(problem.text, _TEXT), indent=4)


def _print_leaks(screen: Screen, data: PreparedData, pairs: Sequence[ListedPair]) -> None:
    leaks = data.leaks
    screen.line("Rows that occur in more than one partition", HEADING)
    compared = ", ".join(f"{rows:,} {name}" for name, rows in leaks.compared.items())
    screen.wrapped(f"compared: {compared or 'nothing'}", indent=2)
    found = [count for count in leaks.counts if count.pairs]
    for count in found:
        _print_count(screen, count)
    if not found:
        screen.line("  no pair was found")
    if leaks.dropped:
        screen.line(f"  left out of train for it: {counted(leaks.dropped, 'row')}", WARNING)
    for pair in pairs[:SHOWN_PAIRS]:
        _print_pair(screen, pair)
    if leaks.listed > SHOWN_PAIRS:
        screen.line()
        screen.line(f"  {leaks.listed - SHOWN_PAIRS:,} more listed: --html shows more")


def _print_count(screen: Screen, count: LeakCount) -> None:
    style = style_of(count.policy) if count.policy != "listed" else ""
    mark = "!" if style else " "
    pairs = f"{'at least ' if count.at_least else ''}{counted(count.pairs, 'pair')}"
    rows = f"{count.first_rows:,} {count.first} and {count.second_rows:,} {count.second} rows"
    line = f"{mark} {count.kind}, by {count.by}: {pairs} of {rows} ({count.policy})"
    screen.wrapped(line, style=style)


def _print_pair(screen: Screen, pair: ListedPair) -> None:
    screen.line()
    screen.line(f"  {pair.kind}, by {pair.by}, similarity {pair.similarity:.2f}")
    screen.beside(_side(pair.first), _side(pair.second))


def _side(side: PairSide) -> tuple[str, str]:
    return f"{side.partition} row {side.row}", one_line(side.text, _PAIR_TEXT)
