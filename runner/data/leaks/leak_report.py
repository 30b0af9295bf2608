"""What was found of rows that occur in more than one partition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

LeakKind = Literal["exact", "near"]
LeakedKind = Literal["exact", "near", "unsettled"]
ComparedBy = Literal["prompt", "answer"]

# Files beside ``prepared.json``. Pairs: kind, by, similarity, and for either side (first, second)
# partition, row, example_id, text (its beginning). Leaked: partition, example_id, row, kind (a
# LeakedKind), of held-out rows that a row still in train equals or is near to, by what the policies
# act on.
PAIRS_FILE = "leaks.parquet"
LEAKED_FILE = "leaked.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCount:
    """Pairs of one kind between two partitions, and how many rows of either they concern.

    ``policy`` is what the recipe says about them, or "listed" where it acts on nothing.
    ``at_least``: so many were found, and then no more were counted, there being very many.
    """

    kind: LeakKind
    by: ComparedBy
    first: str
    second: str
    pairs: int
    first_rows: int
    second_rows: int
    policy: str
    at_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """All counts; ``listed`` pairs are in the file of pairs, ``dropped`` rows are out of train.

    ``compared`` and ``leaked`` are rows by partition; ``leaked`` rows are held out, and a row still
    in train equals or is near to them. Of both these and the dropped rows, ``unsettled`` counts by
    partition those that resemble so many others that not all could be compared: they were not found
    to be near one, and are treated as if they were.
    """

    counts: tuple[LeakCount, ...] = ()
    compared: Mapping[str, int]
    dropped: int = 0
    listed: int = 0
    leaked: Mapping[str, int]
    unsettled: Mapping[str, int] = field(default_factory=dict)

    @property
    def refused(self) -> tuple[LeakCount, ...]:
        """What the recipe's policy ``error`` refuses."""
        return tuple(count for count in self.counts if count.policy == "error" and count.pairs)


def leak_report_from_json(values: Mapping[str, Any]) -> LeakReport:
    """The record back from its JSON form.

    Raises:
        KeyError, TypeError: something is missing or too much.
    """
    return LeakReport(**{**values, "counts": tuple(LeakCount(**c) for c in values["counts"])})
