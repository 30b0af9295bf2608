"""What became of the data: partitions, lengths, rows left out, and what the model was shown."""

from __future__ import annotations

from dataclasses import dataclass

from reports.charts import length_histogram
from reports.exhibits import Figure, Table, names
from reports.number_text import NOTHING, count, counted, fixed, percent
from reports.run_records import ExampleToken, PartitionRecord, PreparedData
from reports.visible_text import visible, without_paths

_ORDER = ("train", "validation", "test")
# Rows listed one by one; beyond it they are counted.
_MOST_ROWS = 200
_MOST_TOKENS = 1_500


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRun:
    """Neighbouring tokens of the rendered example that are all supervised, or all not."""

    supervised: bool
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataView:
    """The data section of a report."""

    summary: str
    partitions: Table
    figures: tuple[Figure, ...]
    left_out: Table | None
    left_out_more: str
    checks: Table
    violations: int
    special_tokens: str
    example: tuple[TokenRun, ...]
    example_note: str


def data_view(data: PreparedData) -> DataView:
    """The data section from ``data.json``."""
    left_out = _left_out_rows(data)
    return DataView(
        summary=_summary(data),
        partitions=_partition_table(data),
        figures=tuple(_length_figure(name, p) for name, p in ordered_partitions(data) if p.rows),
        left_out=_left_out_table(left_out[:_MOST_ROWS]) if left_out else None,
        left_out_more=_more(len(left_out)),
        checks=_check_table(data),
        violations=sum(check.violations for check in data.checks),
        special_tokens=_special_tokens(data),
        example=token_runs(data.example.tokens[:_MOST_TOKENS]),
        example_note=_example_note(data),
    )


def ordered_partitions(data: PreparedData) -> list[tuple[str, PartitionRecord]]:
    """The partitions as train, validation, test, whatever the order they were stored in."""
    known = [(name, data.partitions[name]) for name in _ORDER if name in data.partitions]
    return known + sorted(item for item in data.partitions.items() if item[0] not in _ORDER)


def _summary(data: PreparedData) -> str:
    kept = sum(partition.rows for partition in data.partitions.values())
    return (
        f"{counted(data.source_rows, 'source row')}; {counted(kept, 'example')} kept, "
        f"{counted(len(data.dropped), 'row')} dropped, "
        f"{counted(len(data.truncated), 'row')} truncated."
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


def _length_figure(name: str, partition: PartitionRecord) -> Figure:
    mean = fixed(partition.tokens / partition.rows, 0)
    title = f"{name.capitalize()} examples: {mean} tokens on average, at most {partition.longest:,}"
    edges, counts = partition.lengths.edges, partition.lengths.counts
    return Figure(
        title=title,
        chart=length_histogram(
            edges, counts, key=f"lengths-{name}", title=title, x_name="length, tokens"
        ),
        table=Table(
            caption=f"Lengths of {name} examples",
            columns=names("#From (tokens)", "#To below", "#Examples"),
            rows=tuple(
                (fixed(low, 0), fixed(high, 0), count(number))
                for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True)
            ),
        ),
    )


def _left_out_rows(data: PreparedData) -> list[tuple[int, str, str, str]]:
    rows = [(d.row, d.partition or NOTHING, "dropped", d.reason) for d in data.dropped]
    rows += [(t.row, t.partition, "truncated", f"{t.tokens:,} tokens") for t in data.truncated]
    return sorted(rows)


def _left_out_table(rows: list[tuple[int, str, str, str]]) -> Table:
    return Table(
        caption="Rows dropped or truncated; source rows count from 0",
        columns=names("#Source row", "Partition", "What", "Why"),
        rows=tuple(
            (str(row), partition, what, visible(without_paths(why)))
            for row, partition, what, why in rows
        ),
    )


def _more(number: int) -> str:
    if number <= _MOST_ROWS:
        return ""
    return f"{counted(number - _MOST_ROWS, 'more row')} in data.json of the run folder."


def _check_table(data: PreparedData) -> Table:
    return Table(
        caption="Rules that every row was held to",
        columns=names("Rule", "#Rows checked", "#Violations"),
        rows=tuple((c.rule, count(c.rows_checked), count(c.violations)) for c in data.checks),
    )


def _special_tokens(data: PreparedData) -> str:
    ids = ", ".join(map(str, data.stop_token_ids))
    begins = data.bos_token if data.bos_token is not None else "none"
    return f"Answers stop with {data.stop_token} (token {ids}); text begins with {begins}."


def token_runs(tokens: tuple[ExampleToken, ...]) -> tuple[TokenRun, ...]:
    """Tokens grouped into stretches that the loss counts and stretches that it does not."""
    runs: list[tuple[bool, list[str]]] = []
    for token in tokens:
        if not runs or runs[-1][0] != token.supervised:
            runs.append((token.supervised, []))
        runs[-1][1].append(visible(token.text).replace("\n", "↵\n"))
    return tuple(TokenRun(supervised=kind, tokens=tuple(texts)) for kind, texts in runs)


def _example_note(data: PreparedData) -> str:
    tokens = data.example.tokens
    supervised = sum(token.supervised for token in tokens)
    words = f"{counted(len(tokens), 'token')}, {supervised:,} supervised"
    if len(tokens) > _MOST_TOKENS:
        words += f"; the first {_MOST_TOKENS:,} are shown"
    return f"{words}."
