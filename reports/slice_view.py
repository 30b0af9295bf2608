"""Held-out loss by parts of a partition, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.records import Evidence, SliceKind, SliceLoss, SliceValue
from reports.exhibits import Table, names
from reports.number_text import NOTHING, count, interval_text, scale_of

_FIRST_COLUMN: dict[SliceKind, str] = {"length": "Tokens of the example", "column": "Value"}
_CAPTIONS: dict[SliceKind, str] = {
    "length": "Loss of {partition} by length, nats per token",
    "column": "Loss of {partition} by the declared column, nats per token",
}
_UNIT = "nats per token"


def slice_tables(evidence: Evidence, partition: str) -> tuple[Table, ...]:
    """A table for each way in which the rows of ``partition`` are sliced."""
    found = [one for one in evidence.slices if one.partition == partition]
    kinds: list[SliceKind] = ["length", "column"]
    return tuple(
        _table(partition, kind, rows)
        for kind in kinds
        if (rows := [one for one in found if one.kind == kind])
    )


def _table(partition: str, kind: SliceKind, rows: Sequence[SliceLoss]) -> Table:
    return Table(
        caption=_CAPTIONS[kind].format(partition=partition),
        columns=names(_FIRST_COLUMN[kind], "#Examples", "#Base", "#Adapter", "#Difference"),
        rows=tuple(
            (
                row.name,
                count(row.examples),
                _text(row.base),
                _text(row.adapter),
                _text(row.difference, difference=True),
            )
            for row in rows
        ),
    )


def _text(value: SliceValue | None, *, difference: bool = False) -> str:
    if value is None:
        return NOTHING
    return interval_text(value.value, value.low, value.high, scale_of(_UNIT), difference=difference)
