"""Per-example results of one subject, read from the Parquet files of a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.errors import ReportError

_LOSS_COLUMNS = ("example_id", "row", "nll", "tokens", "bytes", "correct", "partition")
_ANSWER_COLUMNS = ("example_id", "row", "prompt", "reference", "answer")
# Of answers that were generated; those of multiple choice and of lm-eval's tasks have none.
_GENERATED = ("finished", "new_tokens")
_EXTRACTION = ("extracted", "extraction_found")
# Files of an evaluation folder that are no generation task.
_LOSS_FILE = "loss.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossValues:
    """Held-out loss of one partition, one entry an example.

    ``nll`` sums the negative log-likelihoods of an example's supervised tokens, in nats;
    ``correct`` counts the tokens that were the likeliest.
    """

    partition: str
    example_ids: tuple[str, ...]
    rows: tuple[int, ...]
    nll: tuple[float, ...]
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]
    correct: tuple[int, ...]

    @property
    def per_token(self) -> list[float]:
        """Mean loss of each example, in nats per token."""
        return [nll / tokens for nll, tokens in zip(self.nll, self.tokens, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerValues:
    """Generated answers of one task, one entry an example, and each figure of each answer.

    ``new_tokens`` counts the tokens of an answer; ``finished`` says that it ended by itself; both
    are None where the answer was chosen and not generated here. ``smaller_is_better`` are the
    figures of which less is better. ``extracted`` is the part of each answer that was scored, None
    where there was none; it is None where all of each was scored.
    """

    task: str
    example_ids: tuple[str, ...]
    rows: tuple[int, ...]
    prompts: tuple[str, ...]
    references: tuple[str, ...]
    answers: tuple[str, ...]
    finished: tuple[bool, ...] | None
    new_tokens: tuple[int, ...] | None
    figures: Mapping[str, tuple[float, ...]]
    smaller_is_better: frozenset[str] = frozenset()
    extracted: tuple[str | None, ...] | None = None


def read_losses(folder: Path) -> dict[str, LossValues]:
    """Held-out losses below ``folder`` (``evaluation/<subject>``), by partition in file order."""
    path = folder / _LOSS_FILE
    if not path.is_file():
        return {}
    table = read_columns(path, _LOSS_COLUMNS)
    places: dict[str, list[int]] = {}
    for place, partition in enumerate(table["partition"]):
        places.setdefault(partition, []).append(place)
    return {name: _loss_values(name, table, indices) for name, indices in places.items()}


def _loss_values(
    partition: str, table: Mapping[str, Sequence[Any]], places: Sequence[int]
) -> LossValues:
    def pick(column: str) -> tuple[Any, ...]:
        values = table[column]
        return tuple(values[place] for place in places)

    return LossValues(
        partition=partition,
        example_ids=pick("example_id"),
        rows=pick("row"),
        nll=pick("nll"),
        tokens=pick("tokens"),
        bytes=pick("bytes"),
        correct=pick("correct"),
    )


def task_names(folder: Path) -> list[str]:
    """Generation tasks that have answers below ``folder``, sorted."""
    return sorted(p.stem for p in folder.glob("*.parquet") if p.name != _LOSS_FILE)


def read_answers(folder: Path, task: str) -> AnswerValues:
    """The answers of ``task`` below ``folder`` (``evaluation/<subject>``)."""
    path = folder / f"{task}.parquet"
    described = _figures(path)
    names = list(described)
    generated, extraction = _there(path, _GENERATED), _there(path, _EXTRACTION)
    table = read_columns(path, (*_ANSWER_COLUMNS, *generated, *names, *extraction))
    return AnswerValues(
        task=task,
        example_ids=tuple(table["example_id"]),
        rows=tuple(table["row"]),
        prompts=tuple(table["prompt"]),
        references=tuple(table["reference"]),
        answers=tuple(table["answer"]),
        finished=tuple(table["finished"]) if generated else None,
        new_tokens=tuple(table["new_tokens"]) if generated else None,
        figures={name: tuple(table[name]) for name in names},
        smaller_is_better=frozenset(n for n in names if not described[n]["higher_is_better"]),
        extracted=_extracted(table),
    )


def _there(path: Path, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Columns that only some tasks have, where this one has them."""
    from pyarrow import parquet

    return columns if columns[0] in parquet.read_schema(path).names else ()


def _extracted(table: Mapping[str, Sequence[Any]]) -> tuple[str | None, ...] | None:
    if _EXTRACTION[0] not in table:
        return None
    parts, found = (table[name] for name in _EXTRACTION)
    return tuple(part if was else None for part, was in zip(parts, found, strict=True))


def _figures(path: Path) -> dict[str, dict[str, Any]]:
    """Figures as the file describes them in its metadata (evalsuite/results.py), in its order."""
    from pyarrow import ArrowException, parquet

    try:
        metadata = parquet.read_schema(path).metadata or {}
        described: dict[str, dict[str, Any]] = json.loads(metadata[b"proofbox"])["figures"]
        return described
    except FileNotFoundError:
        raise ReportError(f"{path}: this file is missing from the run folder") from None
    except (ArrowException, OSError, KeyError, ValueError) as error:
        raise ReportError(f"{path}: does not describe its figures ({error!r})") from None


def read_columns(path: Path, needed: Sequence[str]) -> dict[str, list[Any]]:
    """The columns of a Parquet file as lists.

    Raises:
        ReportError: the file cannot be read, or lacks a column or a value.
    """
    from pyarrow import ArrowException, parquet

    try:
        # Not `read_table`, which would import pandas.
        table = parquet.ParquetFile(path).read(columns=list(needed))
    except (ArrowException, OSError) as error:
        raise ReportError(f"{path}: cannot be read ({error}). Run the recipe again.") from None
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        found = ", ".join(table.column_names)
        raise ReportError(f"{path}: has no column {missing[0]!r}; it has {found}")
    columns: dict[str, list[Any]] = table.to_pydict()
    for name, values in columns.items():
        if any(value is None for value in values):
            raise ReportError(f"{path}: column {name!r} has an empty value")
    return columns


def check_same_examples(base: Sequence[str], adapter: Sequence[str], what: str) -> None:
    """Refuse to pair results of ``what`` whose example ids differ in kind or order.

    Raises:
        ReportError: naming the first difference.
    """
    if len(base) != len(adapter):
        raise ReportError(f"{what}: {len(base)} examples on one side, {len(adapter)} on the other")
    for place, (left, right) in enumerate(zip(base, adapter, strict=True)):
        if left != right:
            raise ReportError(
                f"{what}: example {place} is {left!r} on one side, {right!r} on the other"
            )
