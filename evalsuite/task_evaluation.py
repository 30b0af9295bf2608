"""One generation task of one subject: answered, scored and stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evalsuite.bench import Bench
from evalsuite.corpus_scores import figure_values
from evalsuite.records import EvaluationSpec, GenerationTask
from evalsuite.results import write_task
from evalsuite.task_scoring import score_answers, task_metrics


def evaluate_task(bench: Bench, task: GenerationTask) -> dict[str, Any]:
    """Answer, score and store one generation task; returns its summary."""
    examples = bench.examples(task.data, task.limit)
    started = time.perf_counter()
    answers = bench.answers(task.name, [e.prompt_ids for e in examples], task.decoding)
    generated = time.perf_counter() - started
    with task_metrics(task) as metrics:
        scores, statistics = score_answers(metrics.values(), examples, answers)
    signatures = {name: metric.signature for name, metric in metrics.items()}
    write_task(
        bench.folder / f"{task.name}.parquet",
        examples,
        answers,
        figures={k: figure for metric in metrics.values() for k, figure in metric.figures.items()},
        scores=scores,
        statistics=statistics,
        conditions=_conditions(bench.spec, task, signatures),
    )
    new_tokens = sum(len(answer.token_ids) for answer in answers)
    return {
        "examples": len(examples),
        "finished": sum(answer.finished for answer in answers),
        "new_tokens": new_tokens,
        "decoding": asdict(task.decoding),
        "metrics": signatures,
        "code_execution": next(
            (m.code_execution for m in metrics.values() if m.code_execution), None
        ),
        "seconds_generating": generated,
        "new_tokens_per_second": new_tokens / generated,
        "seconds_scoring": time.perf_counter() - started - generated,
        "figures": figure_values(scores, statistics),
    }


def _conditions(
    spec: EvaluationSpec, task: GenerationTask, signatures: Mapping[str, str]
) -> dict[str, Any]:
    """What another subject's result must share to be compared with this one."""
    return {
        "data": task.data,
        "limit": task.limit,
        "decoding": asdict(task.decoding),
        "stop_token_ids": list(spec.stop_token_ids),
        # Greedy answers do not depend on the seed.
        "seed": spec.seed if task.decoding.do_sample else None,
        "metrics": dict(signatures),
    }
