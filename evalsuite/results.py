"""Per-example results of one subject as Parquet files that describe themselves."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.catalogue import STATISTICS
from evalsuite.errors import EvidenceError
from evalsuite.examples import Example
from evalsuite.figures import Figure
from evalsuite.generation import Answer
from evalsuite.loss import ExampleLoss
from evalsuite.record_files import from_json, write_atomically
from evalsuite.several_answers import (
    answers_per_example,
    figure_of_means,
    mean_scores,
    summed_statistics,
)

if TYPE_CHECKING:
    import pyarrow as pa

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_METADATA = b"proofbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLoss:
    """Held-out loss of a partition, one entry per example (n,).

    ``lengths`` are in tokens, the whole example. Examples of one of ``clusters`` depend on each
    other; an empty one says that an example depends on none. ``kl`` is None where it was not
    measured. ``conditions`` holds what two results must share to be comparable.
    """

    example_ids: tuple[str, ...]
    nll: Vector
    tokens: Vector
    bytes: Vector
    correct: Vector
    lengths: Vector
    slices: tuple[str, ...]
    clusters: tuple[str, ...]
    kl: Vector | None
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def take(self, places: NDArray[np.intp]) -> PartitionLoss:
        """These examples, in this order."""

        def texts(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(values[place] for place in places)

        return PartitionLoss(
            example_ids=texts(self.example_ids),
            nll=self.nll[places],
            tokens=self.tokens[places],
            bytes=self.bytes[places],
            correct=self.correct[places],
            lengths=self.lengths[places],
            slices=texts(self.slices),
            clusters=texts(self.clusters),
            kl=None if self.kl is None else self.kl[places],
            conditions=self.conditions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScores:
    """Scores of a generation task, one entry per example (n,).

    ``conditions`` holds what two results must share to be comparable: decoding, stop tokens,
    metric signatures. ``clusters`` is empty, or has one name an example, as `PartitionLoss` has.
    """

    example_ids: tuple[str, ...]
    figures: Mapping[str, Figure]
    scores: Mapping[str, Vector]
    statistics: Mapping[str, Matrix]
    conditions: Mapping[str, Any]
    clusters: tuple[str, ...] = ()


def write_loss(
    path: Path,
    losses: Mapping[str, Sequence[ExampleLoss]],
    conditions: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write the per-example losses of every partition, with its conditions, into one file."""
    import pyarrow as pa

    rows = [
        {"partition": partition, **asdict(loss)}
        for partition, scored in losses.items()
        for loss in scored
    ]
    table = pa.Table.from_pylist(rows)
    # A column of nothing but nulls has no kind of its own.
    kl = table["kl"].cast(pa.float64())
    table = table.set_column(table.column_names.index("kl"), "kl", kl)
    metadata = {"partitions": list(losses), "conditions": dict(conditions or {})}
    _write_table(table, metadata, path)


def read_loss(path: Path) -> dict[str, PartitionLoss]:
    """Per-example losses by partition.

    Raises:
        EvidenceError: The file is missing, damaged, or not of this kind.
    """
    table, metadata = _read_table(path)
    partitions = np.array(_column(table, "partition", path).to_pylist())
    return {
        name: replace(
            _partition_loss(_together(table, np.flatnonzero(partitions == name), path), path),
            conditions=metadata["conditions"].get(name, {}),
        )
        for name in metadata["partitions"]
    }


def write_task(
    path: Path,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    *,
    figures: Mapping[str, Figure],
    scores: Mapping[str, Sequence[float]],
    statistics: Mapping[str, Sequence[Sequence[float]]],
    conditions: Mapping[str, Any],
    extracted: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Write prompts, references, answers and per-item scores of a generation task.

    ``extracted`` are further columns that show what was scored, where that is a part of an answer.
    """
    columns: dict[str, Any] = {
        "example_id": [example.example_id for example in examples],
        "answer_number": _answer_numbers(examples),
        "row": [example.row for example in examples],
        "cluster": [example.cluster for example in examples],
        "prompt": [example.prompt for example in examples],
        "reference": [example.answer for example in examples],
        "answer": [answer.text for answer in answers],
        "finished": [answer.finished for answer in answers],
        "unfinished_thinking": [answer.unfinished_thinking for answer in answers],
        "new_tokens": [answer.new_tokens for answer in answers],
        "token_ids": [list(answer.token_ids) for answer in answers],
    }
    columns |= {name: list(values) for name, values in (extracted or {}).items()}
    columns |= {figure: list(map(float, scores[figure])) for figure in figures}
    columns |= {f"{name}{STATISTICS}": rows for name, rows in statistics.items()}
    write_items(path, columns, figures=figures, conditions=conditions)


def write_items(
    path: Path,
    columns: Mapping[str, Sequence[Any]],
    *,
    figures: Mapping[str, Figure],
    conditions: Mapping[str, Any],
) -> None:
    """Write the items of any task: a column for each figure, and what people want to see.

    Args:
        path: The file.
        columns: By name; ``example_id``, ``cluster`` and the figures' are read again.
        figures: What the figures' columns hold.
        conditions: What another subject's result must share to be compared with this one.
    """
    import pyarrow as pa

    described = {name: asdict(figure) for name, figure in figures.items()}
    metadata = {"figures": described, "conditions": dict(conditions)}
    _write_table(pa.table(dict(columns)), metadata, path)


def _answer_numbers(examples: Sequence[Example]) -> list[int]:
    """Which answer to its example each row is, from 0."""
    seen: Counter[str] = Counter()
    numbers = []
    for example in examples:
        numbers.append(seen[example.example_id])
        seen[example.example_id] += 1
    return numbers


def read_task(path: Path) -> TaskScores:
    """Scores of a generation task by example; several answers to one count as their mean.

    Raises:
        EvidenceError: The file is missing, damaged, or not of this kind.
    """
    table, metadata = _read_table(path)
    figures = {
        name: from_json(Figure, described, f"{path.name}: {name}")
        for name, described in metadata["figures"].items()
    }
    summed = [name for name, figure in figures.items() if figure.kind in ("corpus", "ratio")]
    ids = _texts(table, "example_id", path)
    answers = answers_per_example(ids, path.name)
    return TaskScores(
        example_ids=ids[::answers],
        figures={name: figure_of_means(figure, answers) for name, figure in figures.items()},
        scores={name: mean_scores(_numbers(table, name, path), answers) for name in figures},
        statistics={
            name: summed_statistics(_matrix(table, f"{name}{STATISTICS}", path), answers)
            for name in summed
        },
        conditions=metadata["conditions"],
        clusters=_texts(table, "cluster", path)[::answers],
    )


def read_answers(path: Path) -> dict[str, tuple[str, ...]]:
    """The answers' texts of a generation task by example id.

    Raises:
        EvidenceError: As `read_task`.
    """
    table, _ = _read_table(path)
    ids, texts = _texts(table, "example_id", path), _texts(table, "answer", path)
    found: dict[str, tuple[str, ...]] = {}
    for name, text in zip(ids, texts, strict=True):
        found[name] = (*found.get(name, ()), text)
    return found


def _together(table: pa.Table, places: NDArray[np.intp], path: Path) -> pa.Table:
    """The rows at ``places``, one after the other; `take` and `filter` would import pandas."""
    first = int(places[0]) if len(places) else 0
    if len(places) and places[-1] - first + 1 != len(places):
        raise EvidenceError(f"{path}: the rows of a partition lie apart; evaluate the model again.")
    return table.slice(first, len(places))


def _partition_loss(table: pa.Table, path: Path) -> PartitionLoss:
    measured = _column(table, "kl", path).null_count == 0
    return PartitionLoss(
        example_ids=_texts(table, "example_id", path),
        nll=_numbers(table, "nll", path),
        tokens=_numbers(table, "tokens", path),
        bytes=_numbers(table, "bytes", path),
        correct=_numbers(table, "correct", path),
        lengths=_numbers(table, "length", path),
        slices=_texts(table, "slice", path),
        clusters=_texts(table, "cluster", path),
        kl=_numbers(table, "kl", path) if measured else None,
    )


def _write_table(table: pa.Table, metadata: Mapping[str, Any], path: Path) -> None:
    import pyarrow.parquet as pq

    described = json.dumps(metadata, sort_keys=True, allow_nan=False).encode()
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_METADATA: described}), buffer)
    write_atomically(buffer.getvalue(), path)


def _read_table(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()  # `read_table` would import pandas
    except (OSError, pa.ArrowInvalid) as error:
        raise EvidenceError(f"{path}: cannot be read as per-example results: {error}") from error
    described = (table.schema.metadata or {}).get(_METADATA)
    if described is None:
        raise EvidenceError(f"{path}: was not written by proofbox; evaluate the model again.")
    metadata: dict[str, Any] = json.loads(described)
    return table, metadata


def _column(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise EvidenceError(f"{path}: column {name} is missing; evaluate the model again.")
    return table.column(name)


def _texts(table: pa.Table, name: str, path: Path) -> tuple[str, ...]:
    return tuple(_column(table, name, path).to_pylist())


def _numbers(table: pa.Table, name: str, path: Path) -> Vector:
    # By a list, because pyarrow's `to_numpy` would import pandas.
    return np.array(_column(table, name, path).to_pylist(), dtype=np.float64)


def _matrix(table: pa.Table, name: str, path: Path) -> Matrix:
    return np.array(_column(table, name, path).to_pylist(), dtype=np.float64)
