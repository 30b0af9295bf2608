"""How a preview ends: what the data came to, in a few lines, and what to run for details."""

from __future__ import annotations

from runner.data.leaks.leak_report import LeakCount
from runner.data.prepared_data import PreparedData, RuleOutcome
from runner.preview_rules import style_of
from runner.preview_text import Screen, counted


def print_summary(screen: Screen, data: PreparedData, *, recipe: str, rows_shown: bool) -> None:
    """Format, examples, rows left out, broken rules, leaks, notes and the next commands."""
    if rows_shown:
        opening, closing = screen.brackets
        how = "green" if screen.colour else f"between {opening} and {closing}"
        screen.line(f"Supervised tokens are {how}; an answer ends with {data.stop_token}")
        screen.line()
    detected = ", found by its columns" if data.format_detected else ""
    screen.named("format", f"{data.format}{detected}")
    screen.named("examples", _examples(data))
    screen.named("left out", _left_out(data))
    _print_broken(screen, data.rules)
    _print_leaks(screen, data)
    for note in data.notes:
        screen.named("note", note)
    _print_next(screen, recipe)


def _examples(data: PreparedData) -> str:
    counts = ", ".join(f"{part.rows:,} {name}" for name, part in data.partitions.items())
    return f"{counts or 'none'} (of {counted(data.source_rows, 'row')})"


def _left_out(data: PreparedData) -> str:
    dropped = ", ".join(f"{rule.rule} {rule.dropped:,}" for rule in data.rules if rule.dropped)
    words = [counted(data.dropped, "row") + (f" ({dropped})" if dropped else "")]
    if data.truncated:
        words.append(f"{counted(data.truncated, 'row')} cut to fit")
    if data.leaks.dropped:
        words.append(f"{counted(data.leaks.dropped, 'row')} of train for leaks")
    return "; ".join(words)


def _print_broken(screen: Screen, rules: tuple[RuleOutcome, ...]) -> None:
    broken = [rule for rule in rules if rule.violations]
    if not broken:
        screen.named("rules", f"every row keeps all {len(rules)}")
    for rule in broken:
        stops = ": a run stops" if rule.policy == "error" else ""
        text = f"{rule.rule} is broken by {counted(rule.violations, 'row')} ({rule.policy}{stops})"
        screen.named("! rules", text, style=style_of(rule.policy))


def _print_leaks(screen: Screen, data: PreparedData) -> None:
    found = [count for count in data.leaks.counts if count.pairs]
    acted = [count for count in found if count.policy != "listed"]
    for count in acted:
        screen.named("! leaks", _leak(count), style=style_of(count.policy))
    listed = sum(count.pairs for count in found) - sum(count.pairs for count in acted)
    if listed:
        more = "more " if acted else ""
        screen.named("leaks", f"{counted(listed, f'{more}pair')}, which the recipe only lists")
    if not found:
        screen.named("leaks", "none")


def _leak(count: LeakCount) -> str:
    stops = ": a run stops" if count.policy == "error" else ""
    least = "at least " if count.at_least else ""
    pairs = f"{least}{counted(count.pairs, 'pair')}, {count.kind}, by {count.by}"
    return f"{pairs}, between {count.first} and {count.second} ({count.policy}{stops})"


def _print_next(screen: Screen, recipe: str) -> None:
    screen.named("next", f"proofbox preview {recipe} --violations    rules, rows, pairs")
    screen.named("", f"proofbox preview {recipe} --row N         one source row")
    screen.named("", f"proofbox preview {recipe} --html FILE     all of it as a page")
