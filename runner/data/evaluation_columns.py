"""Columns of the rows that evaluation alone reads: tests, slice, cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.data.reading.row_reading import Column
from runner.recipe import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationColumns:
    """The names of the columns, None for one that the recipe does not have.

    ``tests`` runs after an answer's code, ``slice`` says which part of the report a row belongs to,
    rows of one ``cluster`` depend on each other.
    """

    tests: str | None
    slice: str | None
    cluster: str | None

    @classmethod
    def of(cls, dataset: Dataset) -> EvaluationColumns:
        """Those of a recipe; rows that are kept together in a partition are a cluster."""
        columns = dataset.columns
        return cls(
            tests=columns.tests,
            slice=columns.slice,
            cluster=columns.cluster or dataset.partition.group,
        )

    def read(self) -> Iterator[Column]:
        """What has to be read of each row."""
        if self.tests is not None:
            yield Column(name=self.tests)
        for name in (self.slice, self.cluster):
            if name is not None:
                yield Column(name=name, kind="json")

    def texts(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
        """What each of ``rows`` has, by role; an empty text where it has nothing."""
        named = {"tests": self.tests, "slice": self.slice, "cluster": self.cluster}
        return {
            role: [_text(row[name]) for row in rows] if name else [""] * len(rows)
            for role, name in named.items()
        }


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
