"""Answers of a task scored by its metrics, item by item."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evalsuite.examples import Example
from evalsuite.generation import Answer
from evalsuite.metrics import load_metric
from evalsuite.records import GenerationTask

if TYPE_CHECKING:
    from evalsuite.metrics.item_metric import ItemMetric


@contextmanager
def task_metrics(task: GenerationTask) -> Iterator[Mapping[str, ItemMetric]]:
    """The metrics of a task by name; what `evaluate` writes for them is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="proofbox-metrics-") as scratch:
        yield {name: load_metric(name, cache_dir=scratch) for name in task.metrics}


def score_answers(
    metrics: Iterable[ItemMetric], examples: Sequence[Example], answers: Sequence[Answer]
) -> tuple[dict[str, list[float]], dict[str, list[list[float]]]]:
    """Per-item scores and, for corpus figures, sufficient statistics."""
    predictions = [answer.text for answer in answers]
    references = [example.answer for example in examples]
    scores: dict[str, list[float]] = {}
    statistics: dict[str, list[list[float]]] = {}
    for metric in metrics:
        columns = {name: [getattr(e, name) for e in examples] for name in metric.columns}
        scores |= metric.scores(predictions, references, **columns)
        statistics |= metric.statistics(predictions, references)
    return scores, statistics
