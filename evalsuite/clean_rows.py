"""Results on the clean rows: held-out examples that no training row equals or is near to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalsuite.catalogue import CLEAN
from evalsuite.errors import EvidenceError
from evalsuite.records import LeakedExamples
from evalsuite.results import PartitionLoss, TaskScores

# By partition, the ids of its leaked examples, each with how it leaks (exact, near, unsettled).
Leaked = Mapping[str, Mapping[str, str]]
Flags = NDArray[np.bool_]

_COLUMNS = ("partition", "example_id", "kind")


def read_leaked(path: Path) -> dict[str, dict[str, str]]:
    """The leaked examples that preparing the data has listed.

    Raises:
        EvidenceError: The list is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read(columns=list(_COLUMNS))
    except (OSError, pa.ArrowInvalid) as error:
        raise EvidenceError(f"{path}: cannot be read as the list of leaks: {error}") from error
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise EvidenceError(f"{path}: column {missing[0]} is missing; prepare the data again.")
    leaked: dict[str, dict[str, str]] = {}
    for row in table.to_pylist():
        leaked.setdefault(row["partition"], {})[row["example_id"]] = row["kind"]
    return leaked


def leaked_examples(
    losses: Mapping[str, PartitionLoss], tasks: Mapping[str, TaskScores], leaked: Leaked
) -> tuple[LeakedExamples, ...]:
    """How many examples of each partition and task leak; not those that nobody looked at.

    Raises:
        EvidenceError: A leaked example is not among those of its partition.
    """
    for partition, stored in losses.items():
        unknown = sorted(leaked.get(partition, {}).keys() - set(stored.example_ids))
        if unknown:
            raise EvidenceError(
                f"{partition}: example {unknown[0]} is listed as leaked but was not evaluated; "
                "prepare the data and evaluate again."
            )
    flags = {name: _leaks(stored, leaked.get(name, {})) for name, stored in losses.items()}
    flags |= {
        name: _task_leaks(name, scored, leaked)
        for name, scored in tasks.items()
        if _is_compared(scored)
    }
    return tuple(
        LeakedExamples(group=name, examples=len(found), leaked=int(found.sum()))
        for name, found in sorted(flags.items())
    )


def clean_losses(losses: Mapping[str, PartitionLoss], leaked: Leaked) -> dict[str, PartitionLoss]:
    """Losses of the clean rows of partitions in which some rows leak and some do not."""
    found = {}
    for name, stored in losses.items():
        keep = ~_leaks(stored, leaked.get(name, {}))
        if keep.any() and not keep.all():
            found[f"{name}.{CLEAN}"] = stored.take(np.flatnonzero(keep))
    return found


def clean_scores(tasks: Mapping[str, TaskScores], leaked: Leaked) -> dict[str, TaskScores]:
    """Scores of the clean rows of tasks in which some rows leak and some do not."""
    found = {}
    for name, scored in tasks.items():
        if not _is_compared(scored):
            continue
        keep = ~_task_leaks(name, scored, leaked)
        if keep.any() and not keep.all():
            found[f"{name}.{CLEAN}"] = TaskScores(
                example_ids=_kept(scored.example_ids, keep),
                figures=scored.figures,
                scores={figure: values[keep] for figure, values in scored.scores.items()},
                statistics={figure: rows[keep] for figure, rows in scored.statistics.items()},
                conditions=scored.conditions,
                clusters=_kept(scored.clusters, keep) if scored.clusters else (),
            )
    return found


def _leaks(results: PartitionLoss | TaskScores, ids: Mapping[str, str]) -> Flags:
    return np.array([example in ids for example in results.example_ids], dtype=np.bool_)


def _task_leaks(name: str, scored: TaskScores, leaked: Leaked) -> Flags:
    """Which examples of a task leak, by the partition that it was asked from."""
    if "data" not in scored.conditions:
        raise EvidenceError(f"{name}: does not say its partition; evaluate the model again.")
    return _leaks(scored, leaked.get(scored.conditions["data"], {}))


def _is_compared(scored: TaskScores) -> bool:
    """Whether the rows of a task were compared with train's: a benchmark may leave that out."""
    return bool(scored.conditions.get("leaks_compared", True))


def _kept(ids: Sequence[str], keep: Flags) -> tuple[str, ...]:
    return tuple(example for example, kept in zip(ids, keep, strict=True) if kept)
