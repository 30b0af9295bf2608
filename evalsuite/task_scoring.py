"""Answers of a task scored by its metrics, item by item."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalsuite.catalogue import is_column
from evalsuite.errors import EvaluationError
from evalsuite.examples import Example
from evalsuite.extraction import ScoredTexts, reference_texts, scored_texts
from evalsuite.figures import Figure
from evalsuite.generation import Answer
from evalsuite.metrics import load_metric, metric_signature
from evalsuite.records import GenerationTask, MetricSpec

if TYPE_CHECKING:
    from evalsuite.metrics.item_metric import ItemMetric
    from evalsuite.records import CodeExecution


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMetric:
    """A metric of a task, with everything that its scores depend on."""

    label: str
    metric: ItemMetric
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScores:
    """How every answer scored: per-item scores and, for figures of sums, their statistics."""

    texts: ScoredTexts
    figures: Mapping[str, Figure]
    scores: Mapping[str, Sequence[float]]
    statistics: Mapping[str, Sequence[Sequence[float]]]

    @property
    def not_extracted(self) -> int | None:
        """Answers without anything to extract; None where nothing is extracted."""
        return None if self.texts.found is None else self.texts.found.count(False)


@contextmanager
def task_metrics(
    task: GenerationTask, code_execution: CodeExecution | None = None
) -> Iterator[tuple[TaskMetric, ...]]:
    """The metrics of a task; what `evaluate` writes for them is gone afterwards.

    Raises:
        EvaluationError: A metric cannot be loaded, or two of them have the same name or figure.
    """
    with tempfile.TemporaryDirectory(prefix="proofbox-metrics-") as scratch:
        metrics = []
        for spec in task.metrics:
            metric = load_metric(spec, cache_dir=scratch, code_execution=code_execution)
            label = spec.label if isinstance(spec, MetricSpec) else spec
            signature = metric_signature(spec, metric)
            metrics.append(TaskMetric(label=label, metric=metric, signature=signature))
        _require_own_names(task.name, metrics)
        yield tuple(metrics)


def _require_own_names(task: str, metrics: Sequence[TaskMetric]) -> None:
    labels = [metric.label for metric in metrics]
    figures = [figure for metric in metrics for figure in metric.metric.figures]
    taken = next((name for name in figures if is_column(name) or "." in name), None)
    if taken is not None:
        raise EvaluationError(
            f"task {task}: no figure can be called {taken}; give its metric another name (as)."
        )
    for names in (labels, figures):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise EvaluationError(
                f"task {task}: two of its metrics are called {twice}; give one another name (as)."
            )


def check_examples(
    task: GenerationTask, metrics: Iterable[TaskMetric], examples: Sequence[Example]
) -> None:
    """Refuse examples that cannot be scored, whatever they are answered.

    Raises:
        EvaluationError: A reference or a metric cannot be used with them.
    """
    references = reference_texts(examples, task.extract_reference)
    for one in metrics:
        one.metric.check(examples, references)


def score_answers(
    task: GenerationTask,
    metrics: Iterable[TaskMetric],
    examples: Sequence[Example],
    answers: Sequence[Answer],
) -> AnswerScores:
    """Score every answer by every metric.

    Args:
        task: Says which part of answers and references is scored.
        metrics: Those of `task_metrics`.
        examples: The example of each answer (n,); one with several answers occurs as often.
        answers: What was generated (n,).

    Raises:
        EvaluationError: A metric needs a figure that no other gives, or does not give one finite
            number for each of its figures and each answer.
    """
    texts = scored_texts(
        examples,
        [answer.text for answer in answers],
        of_answers=task.extract,
        of_references=task.extract_reference,
    )
    figures: dict[str, Figure] = {}
    scores: dict[str, Sequence[float]] = {}
    statistics: dict[str, Sequence[Sequence[float]]] = {}
    # Those that are made from the figures of others come last.
    for metric in sorted((m.metric for m in metrics), key=lambda m: bool(m.needs())):
        _require_figures(task.name, metric, scores)
        columns = metric.inputs(examples, scores)
        found = metric.scores(texts.predictions, texts.references, **columns)
        _check(metric, found, len(answers))
        figures |= metric.figures
        scores |= found
        statistics |= metric.statistics(texts.predictions, texts.references)
    return AnswerScores(texts=texts, figures=figures, scores=scores, statistics=statistics)


def _require_figures(task: str, metric: ItemMetric, scores: Mapping[str, object]) -> None:
    missing = [name for name in metric.needs() if name not in scores]
    if missing:
        raise EvaluationError(
            f"task {task}: {', '.join(metric.figures)} is made from {missing[0]}; add that to "
            "the task's metrics."
        )


def _check(metric: ItemMetric, found: Mapping[str, Sequence[float]], answers: int) -> None:
    """Whether a metric, which may be a third party's, gave what it promises."""
    if found.keys() != metric.figures.keys():
        raise EvaluationError(
            f"a metric promises the figures {', '.join(metric.figures)} and gives "
            f"{', '.join(found) or 'none'}."
        )
    for name, items in found.items():
        if len(items) != answers:
            raise EvaluationError(f"{name}: {len(items)} scores for {answers} answers.")
        wrong = next((place for place, item in enumerate(items) if not math.isfinite(item)), None)
        if wrong is not None:
            raise EvaluationError(f"{name} of answer {wrong} is {items[wrong]}, not a number.")
