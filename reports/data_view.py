"""What became of the data: partitions, lengths, rules and who broke them, a rendered example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.charts import length_histogram
from reports.exhibits import Figure, Table, names
from reports.number_text import NOTHING, count, counted, fixed, percent
from reports.problem_rows import ProblemRow, problem_table
from reports.rendered_tokens import TokenRun, token_runs
from reports.run_records import PartitionRecord, PreparedData, RuleRecord
from reports.visible_text import visible, without_paths

_ORDER = ("train", "validation", "test")
# Rows listed one by one; beyond it they are counted.
_MOST_ROWS = 200
_MOST_TOKENS = 1_500
TOO_LONG = "too_long"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataView:
    """The data section of a report."""

    summary: str
    left_out: str
    partitions: Table
    figures: tuple[Figure, ...]
    problems: Table | None
    problems_more: str
    rules: Table
    verdict: str
    notes: tuple[str, ...]
    special_tokens: str
    example: tuple[TokenRun, ...]
    example_note: str


def data_view(
    data: PreparedData,
    problems: Sequence[ProblemRow],
    *,
    max_length: int | None = None,
    listed_in: str = "listings/problems.parquet of the run folder",
) -> DataView:
    """The data section from ``data.json`` and the listed problems.

    ``max_length`` is drawn into the histograms of lengths, in tokens. ``listed_in`` tells a reader
    where the problems are that the page has no room for.
    """
    return DataView(
        summary=data_summary(data),
        left_out=left_out(data),
        partitions=_partition_table(data),
        figures=(*length_figures(data, max_length), *share_figures(data)),
        problems=problem_table(problems, most=_MOST_ROWS) if problems else None,
        problems_more=_more(len(problems), listed_in),
        rules=rule_table(data),
        verdict=rules_verdict(data),
        notes=tuple(visible(without_paths(note)) for note in data.notes),
        special_tokens=_special_tokens(data),
        example=token_runs(data.example.tokens[:_MOST_TOKENS]),
        example_note=_example_note(data),
    )


def ordered_partitions(data: PreparedData) -> list[tuple[str, PartitionRecord]]:
    """The partitions as train, validation, test, whatever the order they were stored in."""
    known = [(name, data.partitions[name]) for name in _ORDER if name in data.partitions]
    return known + sorted(item for item in data.partitions.items() if item[0] not in _ORDER)


def data_summary(data: PreparedData) -> str:
    """Source rows, their format, and examples."""
    kept = sum(partition.rows for partition in data.partitions.values())
    how = ", found by its columns" if data.format_detected else ""
    return (
        f"{counted(data.source_rows, 'source row')} of format {data.format}{how}; "
        f"{counted(kept, 'example')}."
    )


def left_out(data: PreparedData) -> str:
    """Rows that were dropped or cut, and the rules that did it."""
    rules = ", ".join(f"{rule.rule} {rule.dropped:,}" for rule in data.rules if rule.dropped)
    dropped = counted(data.source_rows - data.rows_kept, "row")
    words = [f"{dropped} left out{f' ({rules})' if rules else ''}."]
    if cut_rows(data):
        words.append(f"{counted(cut_rows(data), 'row')} cut to the longest length.")
    if data.leaks.dropped:
        words.append(f"{counted(data.leaks.dropped, 'row')} left out of train for leaks.")
    return " ".join(words)


def cut_rows(data: PreparedData) -> int:
    """How many rows were cut to the longest length and kept."""
    return sum(
        rule.violations - rule.dropped
        for rule in data.rules
        if rule.rule == TOO_LONG and rule.policy == "truncate"
    )


def _partition_table(data: PreparedData) -> Table:
    return Table(
        caption="Partitions",
        columns=names(
            "Partition", "#Examples", "#Tokens", "#Supervised", "#Share", "#Mean length",
            "#Longest", "`Digest",
        ),
        rows=tuple(
            (
                name,
                count(p.rows),
                count(p.tokens),
                count(p.supervised_tokens),
                percent(p.supervised_tokens, p.tokens),
                fixed(p.tokens / p.rows, 0) if p.rows else NOTHING,
                count(p.longest),
                p.digest[:12],
            )
            for name, p in ordered_partitions(data)
        ),
    )  # fmt: skip


def length_figures(data: PreparedData, max_length: int | None) -> tuple[Figure, ...]:
    """A histogram of lengths for each partition that has examples."""
    return tuple(
        _length_figure(name, partition, max_length)
        for name, partition in ordered_partitions(data)
        if partition.rows
    )


def _length_figure(name: str, partition: PartitionRecord, max_length: int | None) -> Figure:
    mean = fixed(partition.tokens / partition.rows, 0)
    title = f"{name.capitalize()} examples: {mean} tokens on average, at most {partition.longest:,}"
    edges, counts = partition.lengths.edges, partition.lengths.counts
    return Figure(
        title=title,
        chart=length_histogram(
            edges,
            counts,
            key=f"lengths-{name}",
            title=title,
            x_name="length, tokens",
            limit=None if max_length is None else (max_length, f"max_length {max_length:,}"),
        ),
        table=_histogram_table(f"Lengths of {name} examples", "tokens", edges, counts),
    )


def share_figures(data: PreparedData) -> tuple[Figure, ...]:
    """A histogram of the share of supervised tokens, where there is any example."""
    edges, counts = data.shares.edges, data.shares.counts
    if not sum(counts):
        return ()
    supervised = sum(partition.supervised_tokens for partition in data.partitions.values())
    tokens = sum(partition.tokens for partition in data.partitions.values())
    title = f"{percent(supervised, tokens)} of all tokens are supervised"
    chart = length_histogram(
        edges, counts, key="shares", title=title, x_name="supervised tokens of an example, %"
    )
    table = _histogram_table("Supervised share of examples", "%", edges, counts)
    return (Figure(title=title, chart=chart, table=table),)


def _histogram_table(
    caption: str, unit: str, edges: Sequence[float], counts: Sequence[int]
) -> Table:
    return Table(
        caption=caption,
        columns=names(f"#From ({unit})", "#To below", "#Examples"),
        rows=tuple(
            (fixed(low, 0), fixed(high, 0), count(number))
            for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True)
        ),
    )


def _more(number: int, listed_in: str) -> str:
    if number <= _MOST_ROWS:
        return ""
    return f"{counted(number - _MOST_ROWS, 'more row')} in {listed_in}."


def rule_table(data: PreparedData) -> Table:
    """The label contract: what the recipe does about each rule, broken ones first."""
    return Table(
        caption="Rules that every row was held to; source rows count from 0",
        columns=names(
            "`Rule", "What must hold", "Policy", "#Rows checked", "#Violations", "#Dropped",
            "First rows",
        ),
        rows=tuple(
            (
                rule.rule,
                rule.text,
                rule.policy,
                count(rule.rows_checked),
                count(rule.violations),
                count(rule.dropped),
                _first_rows(rule),
            )
            for rule in sorted(data.rules, key=lambda rule: rule.violations == 0)
        ),
    )  # fmt: skip


def _first_rows(rule: RuleRecord) -> str:
    if not rule.violations:
        return NOTHING
    more = ", …" if rule.violations > len(rule.first_rows) else ""
    return ", ".join(map(str, rule.first_rows)) + more


def rules_verdict(data: PreparedData) -> str:
    """How many rules are broken, in one sentence."""
    broken = [rule.rule for rule in data.rules if rule.violations]
    if not broken:
        return f"Every row keeps all {counted(len(data.rules), 'rule')}"
    rules = counted(len(data.rules), "rule")
    return f"{len(broken)} of {rules} broken: {', '.join(broken)}"


def _special_tokens(data: PreparedData) -> str:
    ids = ", ".join(map(str, data.stop_token_ids))
    begins = data.bos_token if data.bos_token is not None else "none"
    return f"Answers stop with {data.stop_token} (token {ids}); text begins with {begins}."


def _example_note(data: PreparedData) -> str:
    tokens = data.example.tokens
    supervised = sum(token.supervised for token in tokens)
    words = f"{counted(len(tokens), 'token')}, {supervised:,} supervised"
    if len(tokens) > _MOST_TOKENS:
        words += f"; the first {_MOST_TOKENS:,} are shown"
    return f"{words}."
