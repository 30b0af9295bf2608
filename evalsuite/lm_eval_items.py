"""Items of lm-evaluation-harness's tasks, stored as our own: a row each, a figure for each metric.

A metric is taken over where the harness's number is the mean of one score of each item. One that is
a function of all items at once (its BLEU, F1, perplexities) has no score of an item: it is in the
summary, and no gate can judge it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.errors import EvaluationError
from evalsuite.figures import SHARE, Figure
from evalsuite.results import write_items

if TYPE_CHECKING:
    from lm_eval.api.task import Task

# Metrics that its own output types score with 0 or 1.
_BINARY = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
_NO_FILTER = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """What the harness made of one task: samples are its own records, one for each filter."""

    task: Task
    samples: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]
    higher_is_better: Mapping[str, bool | None]
    conditions: Mapping[str, Any]


def store_items(folder: Path, name: str, run: TaskRun) -> dict[str, Any]:
    """Write the items of a task; returns its summary with the harness's own numbers."""
    figures, columns = item_figures(run)
    if not figures:
        raise EvaluationError(
            f"lm-eval task {name}: none of its metrics scores single items, so that nothing of it "
            f"could be compared. It has {', '.join(_own_numbers(run.results)) or 'no metric'}."
        )
    items = _items(run.samples)
    write_items(
        folder / f"{name}.parquet",
        {
            "example_id": _ids(items),
            "row": [sample["doc_id"] for sample in items],
            "cluster": [""] * len(items),
            "question": [_question(run.task, sample) for sample in items],
            "prompt": [str(sample["arguments"][0][0]) for sample in items],
            "reference": [str(sample["target"]) for sample in items],
            "answer": [_shown(sample["filtered_resps"]) for sample in items],
            **columns,
        },
        figures=figures,
        conditions=run.conditions,
    )
    return {
        "examples": len(items),
        "version": run.conditions["task_version"],
        "figures": {key: sum(values) / len(values) for key, values in columns.items()},
        "lm_eval": _own_numbers(run.results),
    }


def item_figures(run: TaskRun) -> tuple[dict[str, Figure], dict[str, list[float]]]:
    """The metrics of a task that score every item, and those scores in the order of items."""
    figures: dict[str, Figure] = {}
    columns: dict[str, list[float]] = {}
    items = len(_items(run.samples))
    for name in dict.fromkeys(sample["filter"] for sample in run.samples):
        samples = [sample for sample in run.samples if sample["filter"] == name]
        for metric in dict.fromkeys(key for sample in samples for key in sample["metrics"]):
            scores = [sample.get(metric) for sample in samples]
            if len(scores) == items and _is_mean_of(run.task, metric, scores):
                key = metric if name == _NO_FILTER else f"{metric}-{name}"
                figures[key] = _figure(run, metric)
                columns[key] = [float(score) for score in scores if isinstance(score, _NUMBERS)]
    return figures, columns


_NUMBERS = (bool, int, float, Real)


def _is_mean_of(task: Task, metric: str, scores: Sequence[object]) -> bool:
    """Whether the harness's number is the mean of ``scores``, one of each item."""
    from lm_eval.api.metrics import mean

    aggregation = task.aggregation().get(metric, mean)
    return aggregation is mean and all(isinstance(score, _NUMBERS) for score in scores)


def _figure(run: TaskRun, metric: str) -> Figure:
    better = run.higher_is_better.get(metric)
    custom = callable(run.task.config.process_results)
    if metric in _BINARY and not custom and better is not False:
        return SHARE
    return Figure(kind="mean", unit="", higher_is_better=better is not False)


def _items(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One sample of each item: those of the first filter."""
    first = samples[0]["filter"] if samples else None
    return [sample for sample in samples if sample["filter"] == first]


def _ids(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ids by content, with a count where the same document came before."""
    seen: Counter[str] = Counter()
    ids = []
    for sample in items:
        key = str(sample["doc_hash"])[:16]
        ids.append(f"{key}-{seen[key]}" if seen[key] else key)
        seen[key] += 1
    return ids


def _question(task: Task, sample: Mapping[str, Any]) -> str:
    """What an item asks, without shown rows and template; for leaks to be looked for."""
    text = task.doc_to_text(sample["doc"])
    return text if isinstance(text, str) else ""


def _shown(responses: Sequence[Any]) -> str:
    """The answer as text: what was generated, or the log-likelihoods."""
    if len(responses) == 1 and isinstance(responses[0], str):
        return responses[0]
    return json.dumps(responses, default=str)


def _own_numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """The harness's numbers by its own names, such as ``acc,none``."""
    return {
        key: float(value)
        for key, value in results.items()
        if isinstance(value, _NUMBERS) and "," in key and "_stderr," not in key
    }
