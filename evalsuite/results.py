"""Per-example results of one subject as Parquet files that describe themselves."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import EvidenceError
from evalsuite.examples import Example
from evalsuite.figures import Figure
from evalsuite.generation import Answer
from evalsuite.loss import ExampleLoss
from evalsuite.record_files import from_json, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Suffix of the column with a corpus figure's per-item sufficient statistics.
_STATISTICS = "_statistics"
_METADATA = b"proofbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLoss:
    """Held-out loss of a partition, one entry per example (n,)."""

    example_ids: tuple[str, ...]
    nll: Vector
    tokens: Vector
    bytes: Vector
    correct: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScores:
    """Scores of a generation task, one entry per example (n,).

    ``conditions`` holds what two results must share to be comparable: decoding, stop tokens,
    metric signatures.
    """

    example_ids: tuple[str, ...]
    figures: Mapping[str, Figure]
    scores: Mapping[str, Vector]
    statistics: Mapping[str, Matrix]
    conditions: Mapping[str, Any]


def write_loss(path: Path, losses: Mapping[str, Sequence[ExampleLoss]]) -> None:
    """Write the per-example losses of every partition into one file."""
    import pyarrow as pa

    rows = [
        {"partition": partition, **asdict(loss)}
        for partition, scored in losses.items()
        for loss in scored
    ]
    _write_table(pa.Table.from_pylist(rows), {"partitions": list(losses)}, path)


def read_loss(path: Path) -> dict[str, PartitionLoss]:
    """Per-example losses by partition.

    Raises:
        EvidenceError: The file is missing, damaged, or not of this kind.
    """
    table, metadata = _read_table(path)
    partitions = np.array(_column(table, "partition", path).to_pylist())
    return {
        name: _partition_loss(table, np.flatnonzero(partitions == name), path)
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
) -> None:
    """Write prompts, references, answers and per-item scores of a generation task."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        "example_id": [example.example_id for example in examples],
        "row": [example.row for example in examples],
        "prompt": [example.prompt for example in examples],
        "reference": [example.answer for example in examples],
        "answer": [answer.text for answer in answers],
        "finished": [answer.finished for answer in answers],
        "new_tokens": [len(answer.token_ids) for answer in answers],
        "token_ids": [list(answer.token_ids) for answer in answers],
    }
    columns |= {figure: list(map(float, scores[figure])) for figure in figures}
    columns |= {f"{name}{_STATISTICS}": rows for name, rows in statistics.items()}
    described = {name: asdict(figure) for name, figure in figures.items()}
    metadata = {"figures": described, "conditions": dict(conditions)}
    _write_table(pa.table(columns), metadata, path)


def read_task(path: Path) -> TaskScores:
    """Per-item scores of a generation task.

    Raises:
        EvidenceError: The file is missing, damaged, or not of this kind.
    """
    table, metadata = _read_table(path)
    figures = {
        name: from_json(Figure, described, f"{path.name}: {name}")
        for name, described in metadata["figures"].items()
    }
    corpus = [name for name, figure in figures.items() if figure.kind == "corpus"]
    return TaskScores(
        example_ids=tuple(_column(table, "example_id", path).to_pylist()),
        figures=figures,
        scores={name: _numbers(table, name, path) for name in figures},
        statistics={
            name: np.array(
                _column(table, f"{name}{_STATISTICS}", path).to_pylist(), dtype=np.float64
            )
            for name in corpus
        },
        conditions=metadata["conditions"],
    )


def _partition_loss(table: pa.Table, places: NDArray[np.intp], path: Path) -> PartitionLoss:
    ids = _column(table, "example_id", path).to_pylist()
    return PartitionLoss(
        example_ids=tuple(ids[place] for place in places),
        nll=_numbers(table, "nll", path)[places],
        tokens=_numbers(table, "tokens", path)[places],
        bytes=_numbers(table, "bytes", path)[places],
        correct=_numbers(table, "correct", path)[places],
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


def _numbers(table: pa.Table, name: str, path: Path) -> Vector:
    # By a list, because pyarrow's `to_numpy` would import pandas.
    return np.array(_column(table, name, path).to_pylist(), dtype=np.float64)
