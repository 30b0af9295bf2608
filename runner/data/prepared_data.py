"""What preparing a dataset yields: partitions on disk, and every count and digest about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.data.partition import SPLITS
from runner.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of values between edges: ``counts[i]`` lies in ``edges[i] <= value < edges[i + 1]``.

    The last bin includes its upper edge.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPartition:
    """One partition as a Parquet file.

    ``digest`` is that of its membership: the examples' ids in order. ``sha256`` is the file's.
    ``longest`` and ``lengths`` are in tokens.
    """

    file: str
    sha256: str
    rows: int
    tokens: int
    supervised_tokens: int
    digest: str
    longest: int
    lengths: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedRow:
    """A row that was left out; ``row`` counts from 0 in the source."""

    row: int
    partition: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedRow:
    """A row that was cut at its end; ``tokens`` is its length before."""

    row: int
    partition: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRule:
    """A rule of the label contract that was checked on every row."""

    rule: str
    rows_checked: int
    violations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownToken:
    """A token of a rendered example as text; the texts of an example join to the whole."""

    text: str
    supervised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """A dataset ready for training and evaluation: ``data.json`` plus the Parquet files' folder."""

    folder: str
    key: str
    partitions: Mapping[str, PreparedPartition]
    source_rows: int
    dropped: tuple[DroppedRow, ...]
    truncated: tuple[TruncatedRow, ...]
    checks: tuple[CheckedRule, ...]
    notes: tuple[str, ...]
    data_digest: str
    template_digest: str
    chat_template: str
    stop_token: str
    stop_token_ids: tuple[int, ...]
    bos_token: str | None
    example: tuple[ShownToken, ...]

    def path(self, partition: str) -> Path:
        """The Parquet file of a partition.

        Raises:
            DataError: the recipe makes no rows for this partition.
        """
        if partition not in self.partitions:
            raise DataError(
                f"there is no partition {partition!r}: the recipe's dataset.partition makes "
                + ", ".join(self.partitions)
            )
        return Path(self.folder) / self.partitions[partition].file

    @property
    def paths(self) -> dict[str, Path]:
        """The Parquet file of every partition by its name, as ``evalsuite`` takes them."""
        return {name: self.path(name) for name in self.partitions}

    def as_json(self) -> dict[str, Any]:
        """The record as the plain values of ``data.json``; equal on every machine."""
        values = asdict(self)
        del values["folder"]
        values["example"] = {"tokens": values["example"]}
        return values


def prepared_data_from_json(values: Mapping[str, Any], folder: Path) -> PreparedData:
    """The record back from ``PreparedData.as_json``, with its files in ``folder``.

    Raises:
        KeyError, TypeError: something is missing or too much.
    """
    stored = values["partitions"]
    partitions = {
        name: PreparedPartition(**{**stored[name], "lengths": _histogram(stored[name]["lengths"])})
        for name in sorted(stored, key=SPLITS.index)  # JSON keeps them by name
    }
    return PreparedData(
        **{
            **values,
            "folder": str(folder),
            "partitions": partitions,
            "dropped": tuple(DroppedRow(**row) for row in values["dropped"]),
            "truncated": tuple(TruncatedRow(**row) for row in values["truncated"]),
            "checks": tuple(CheckedRule(**rule) for rule in values["checks"]),
            "notes": tuple(values["notes"]),
            "stop_token_ids": tuple(values["stop_token_ids"]),
            "example": tuple(ShownToken(**token) for token in values["example"]["tokens"]),
        }
    )


def _histogram(values: Mapping[str, Any]) -> Histogram:
    return Histogram(edges=tuple(values["edges"]), counts=tuple(values["counts"]))
