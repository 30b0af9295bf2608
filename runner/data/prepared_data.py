"""What preparing a dataset yields: partitions on disk, and every count and digest about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.data.leaks.leak_report import (
    LEAKED_FILE,
    PAIRS_FILE,
    LeakReport,
    leak_report_from_json,
)
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


# The file beside ``prepared.json`` that lists rows with a problem, the first LISTED of each rule:
# row, place (file and line, or empty), partition, rule, outcome (dropped, kept, cut), detail,
# tokens (or 0), text (the row's values as JSON, cut).
PROBLEMS_FILE = "problems.parquet"
LISTED = 1000
WHOLE = "test"  # the partition that all rows of a set beside the dataset are
# What a run keeps a copy of.
LISTINGS = (PROBLEMS_FILE, PAIRS_FILE, LEAKED_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """A rule that was checked on every row, and what the recipe does with rows that break it.

    ``rule`` is the key of ``dataset.violations``, or ``too_long``; ``policy`` its value there
    (``truncate`` for rows that are cut). ``first_rows`` are the first few row numbers.
    """

    rule: str
    text: str
    policy: str
    rows_checked: int
    violations: int
    dropped: int
    first_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownToken:
    """A token of a rendered example as text; the texts of an example join to the whole."""

    text: str
    supervised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """A dataset ready for training and evaluation: ``data.json`` plus the Parquet files' folder.

    ``rules`` has one outcome for each rule of the label contract and one for ``too_long``;
    ``shares`` counts examples by the share of their tokens that is supervised, in percent.
    ``answer_marker`` is the template's own text that a generated answer begins after (the end of a
    thinking block), or empty. ``sets`` are the sets of rows beside the dataset, by name: of each,
    all rows are its partition ``test``.
    """

    folder: str
    key: str
    partitions: Mapping[str, PreparedPartition]
    source_rows: int
    rows_kept: int
    format: str
    format_detected: bool
    rules: tuple[RuleOutcome, ...]
    leaks: LeakReport
    shares: Histogram
    notes: tuple[str, ...]
    data_digest: str
    template_digest: str
    chat_template: str
    stop_token: str
    stop_token_ids: tuple[int, ...]
    bos_token: str | None
    thinking: bool | None
    answer_marker: str
    example: tuple[ShownToken, ...]
    sets: Mapping[str, PreparedData] = field(default_factory=dict)

    def path(self, partition: str) -> Path:
        """The Parquet file of a partition, or of a set beside the dataset.

        Raises:
            DataError: the recipe makes no rows for this partition.
        """
        if partition in self.sets:
            return self.sets[partition].path(WHOLE)
        if partition not in self.partitions:
            raise DataError(
                f"there is no partition {partition!r}: the recipe's dataset.partition makes "
                + ", ".join(self.partitions)
            )
        return Path(self.folder) / self.partitions[partition].file

    def part(self, name: str) -> PreparedPartition:
        """The record of a partition, or of a set beside the dataset."""
        return self.sets[name].partitions[WHOLE] if name in self.sets else self.partitions[name]

    @property
    def memberships(self) -> dict[str, str]:
        """Digest of the membership of every partition and set: what a lock holds."""
        return {name: self.part(name).digest for name in (*self.partitions, *self.sets)}

    @property
    def truncated(self) -> int:
        """How many rows were cut to ``template.max_length``."""
        return sum(o.violations - o.dropped for o in self.rules if o.rule == "too_long")

    @property
    def dropped(self) -> int:
        """How many rows were left out, for whatever rule; leaks are counted in ``leaks``."""
        return self.source_rows - self.rows_kept

    @property
    def paths(self) -> dict[str, Path]:
        """The Parquet file of every partition by its name, as ``evalsuite`` takes them."""
        return {name: self.path(name) for name in self.partitions}

    def as_json(self) -> dict[str, Any]:
        """The record as the plain values of ``data.json``; equal on every machine."""
        values = asdict(replace(self, sets={}))
        del values["folder"]
        values["example"] = {"tokens": values["example"]}
        values["sets"] = {name: data.as_json() for name, data in self.sets.items()}
        return values


def prepared_data_from_json(values: Mapping[str, Any], folder: Path) -> PreparedData:
    """The record back from ``PreparedData.as_json``, with its files in ``folder``.

    Sets have their files elsewhere; they are left out.

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
            "sets": {},
            "partitions": partitions,
            "rules": tuple(
                RuleOutcome(**{**rule, "first_rows": tuple(rule["first_rows"])})
                for rule in values["rules"]
            ),
            "leaks": leak_report_from_json(values["leaks"]),
            "shares": _histogram(values["shares"]),
            "notes": tuple(values["notes"]),
            "stop_token_ids": tuple(values["stop_token_ids"]),
            "example": tuple(ShownToken(**token) for token in values["example"]["tokens"]),
        }
    )


def _histogram(values: Mapping[str, Any]) -> Histogram:
    return Histogram(edges=tuple(values["edges"]), counts=tuple(values["counts"]))
