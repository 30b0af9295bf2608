"""Leaks between partitions in the report of a run: what leaks, and what figures are without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evalsuite.catalogue import is_clean, on_clean_rows
from evalsuite.records import Evidence, LeakedExamples
from reports.example_values import read_columns
from reports.exhibits import Table, names
from reports.leak_pairs import LeakPairsView, leak_pairs_view, read_pairs
from reports.loss_view import metric_row
from reports.metric_names import figure_of, group_of, label_of
from reports.number_text import count, counted
from reports.stored_run import StoredRun
from reports.visible_text import visible

# The file in ``listings/`` of a run: held-out rows that a row still in train gives away.
LEAKED_FILE = "leaked.parquet"
_KINDS = ("exact", "near", "unsettled")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakView:
    """The leak section of a report.

    ``marked`` counts held-out rows that leak, ``scores`` has figures on all and on the clean rows;
    either is None where no row leaks. ``found`` are the pairs, those of rows since dropped too.
    """

    found: LeakPairsView
    marked: Table | None
    scores: Table | None
    sentences: tuple[str, ...]


def leak_view(run: StoredRun) -> LeakView:
    """The leak section of ``run``.

    Raises:
        ReportError: a list of leaks is damaged.
    """
    listings = run.folder / "listings"
    kinds = _read_kinds(listings / LEAKED_FILE)
    return LeakView(
        found=leak_pairs_view(run.data.leaks, read_pairs(listings)),
        marked=_marked_table(kinds),
        scores=_score_table(run.evidence),
        sentences=tuple(_sentences(run.evidence, kinds)),
    )


def _read_kinds(path: Path) -> Counter[tuple[str, str]]:
    """Leaked rows by partition and kind."""
    if not path.is_file():
        return Counter()
    columns = read_columns(path, ("partition", "kind"))
    return Counter(zip(columns["partition"], columns["kind"], strict=True))


def _marked_table(kinds: Counter[tuple[str, str]]) -> Table | None:
    partitions = sorted({partition for partition, _ in kinds})
    if not partitions:
        return None
    return Table(
        caption="Held-out rows that a row of train gives away",
        columns=names("Partition", "#Equal", "#Nearly equal", "#Not settled"),
        rows=tuple(
            (visible(name), *(count(kinds[name, kind]) for kind in _KINDS)) for name in partitions
        ),
    )


def _sentences(evidence: Evidence, kinds: Counter[tuple[str, str]]) -> Iterator[str]:
    leaking = [found for found in evidence.leaked if found.leaked]
    if not evidence.leaked:
        yield "The evidence does not say which of the evaluated rows leak."
    elif not leaking:
        yield "No evaluated row leaks: figures on the clean rows are those on all rows."
    for found in leaking:
        yield _sentence(found)
    if any(kind == "unsettled" for _, kind in kinds):
        yield (
            "Rows that are not settled resemble so many others that they were not compared with "
            "all of them. They were not found to leak, and do not count as clean."
        )


def _sentence(found: LeakedExamples) -> str:
    name, whole = visible(found.group), counted(found.examples, "example")
    if found.leaked == found.examples:
        return f"{name}: all {whole} leak, so there is no figure on clean rows."
    return f"{name}: {count(found.leaked)} of {whole} leak; the others are its clean rows."


def _score_table(evidence: Evidence) -> Table | None:
    measured = dict.fromkeys(m.metric for m in evidence.measurements)
    both = [m for m in measured if not is_clean(m) and on_clean_rows(m) in measured]
    if not both:
        return None
    return Table(
        caption="Figures on all rows and on the clean rows, with 95% intervals",
        columns=names("Figure", "Unit", "Rows", "#Examples", "#Base", "#Adapter", "#Difference"),
        rows=tuple(
            _score_row(evidence, metric, rows)
            for name in both
            for metric, rows in ((name, "all"), (on_clean_rows(name), "clean"))
        ),
    )


def _score_row(evidence: Evidence, metric: str, rows: str) -> tuple[str, ...]:
    some = evidence.measurement(metric, "adapter") or evidence.measurement(metric, "base")
    row = metric_row(evidence, metric)
    group = group_of(metric) if rows == "all" else group_of(group_of(metric))
    return (
        visible(f"{group}: {label_of(figure_of(metric))}"),
        row.unit,
        rows,
        count(some.examples) if some else "",
        row.base,
        row.adapter,
        row.difference,
    )
