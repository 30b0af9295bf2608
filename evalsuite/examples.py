"""Examples of a prepared partition, as the eval suite sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.errors import EvaluationError

IGNORED_LABEL = -100

_COLUMNS = (
    "example_id",
    "row",
    "input_ids",
    "labels",
    "prompt_ids",
    "prompt",
    "answer",
    "supervised_bytes",
    "tests",
    "slice",
    "cluster",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One rendered and tokenized conversation.

    ``labels`` has the length of ``input_ids``: the same token where it is supervised, -100
    elsewhere, not shifted. ``tests`` is Python source that runs after the answer, or empty.
    ``slice`` is the part of the data that it is reported in, or empty; examples of one ``cluster``
    depend on each other, one without depends on none.
    """

    example_id: str
    row: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    prompt: str
    answer: str
    supervised_bytes: int
    tests: str
    slice: str = ""
    cluster: str = ""


def read_examples(path: Path, *, limit: int | None = None) -> list[Example]:
    """The first ``limit`` examples of a prepared partition, in its order.

    Raises:
        EvaluationError: The file is missing or damaged, a column is missing, there is no row, an
            example id occurs twice, or labels and tokens differ in length.
    """
    examples = [_example(record, path) for record in _read_rows(path, limit)]
    if not examples:
        raise EvaluationError(f"{path.name}: no examples to evaluate; the partition is empty.")
    seen: set[str] = set()
    for example in examples:
        if example.example_id in seen:
            raise EvaluationError(
                f"{path.name}: example id {example.example_id} occurs twice; ids must be unique."
            )
        seen.add(example.example_id)
    return examples


def _read_rows(path: Path, limit: int | None) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = pq.read_schema(path).names
        missing = [name for name in _COLUMNS if name not in present]
        if missing:
            raise EvaluationError(
                f"{path.name}: column {missing[0]} is missing; prepare the data again."
            )
        table = pq.read_table(path, columns=list(_COLUMNS))
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(f"{path}: cannot be read as a prepared partition: {error}") from error
    rows: list[dict[str, Any]] = table.slice(0, limit).to_pylist()
    return rows


def _example(record: Mapping[str, Any], path: Path) -> Example:
    tokens, labels = tuple(record["input_ids"]), tuple(record["labels"])
    if len(tokens) != len(labels):
        raise EvaluationError(
            f"{path.name}: example {record['example_id']} has {len(tokens)} tokens but "
            f"{len(labels)} labels; they must be as many."
        )
    return Example(
        example_id=record["example_id"],
        row=record["row"],
        input_ids=tokens,
        labels=labels,
        prompt_ids=tuple(record["prompt_ids"]),
        prompt=record["prompt"],
        answer=record["answer"],
        supervised_bytes=record["supervised_bytes"],
        tests=record["tests"],
        slice=record["slice"],
        cluster=record["cluster"],
    )
