"""One generation task of one subject: answered, scored and stored."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evalsuite.bench import Bench
from evalsuite.corpus_scores import figure_values
from evalsuite.example_identity import example_conditions
from evalsuite.examples import Example
from evalsuite.generation import Answer, Request
from evalsuite.records import GenerationTask
from evalsuite.results import write_task
from evalsuite.task_scoring import check_examples, score_answers, task_metrics


def evaluate_task(bench: Bench, task: GenerationTask) -> dict[str, Any]:
    """Answer, score and store one generation task; returns its summary.

    What cannot be scored whatever is answered is told before answers are generated.
    """
    asked = bench.examples(task.data, task.limit)
    with task_metrics(task, bench.spec.code_execution) as metrics:
        if bench.most is None:  # else a part of what was checked before is evaluated again
            check_examples(task, metrics, asked)
        examples, answers, generation = _answers(bench, task, asked)
        started = time.perf_counter()
        scored = score_answers(task, metrics, examples, answers)
    signatures = {metric.label: metric.signature for metric in metrics}
    write_task(
        bench.folder / f"{task.name}.parquet",
        examples,
        answers,
        figures=scored.figures,
        scores=scored.scores,
        statistics=scored.statistics,
        conditions={
            **_conditions(bench, task, signatures),
            **example_conditions(asked, bench.spec.template_digests.get(task.data)),
        },
        extracted=scored.texts.columns,
    )
    return {
        "examples": len(asked),
        "answers": len(answers),
        **generation,
        "decoding": asdict(task.decoding),
        "metrics": signatures,
        "code_execution": next(
            (m.metric.code_execution for m in metrics if m.metric.code_execution), None
        ),
        "seconds_scoring": time.perf_counter() - started,
        "not_extracted": scored.not_extracted,
        "figures": figure_values(scored.figures, scored.scores, scored.statistics),
    }


def _answers(
    bench: Bench, task: GenerationTask, asked: Sequence[Example]
) -> tuple[list[Example], list[Answer], dict[str, Any]]:
    """Every example as often as it is answered, the answers, and what the summary tells of them."""
    pairs = [(e, number) for e in asked for number in range(task.answers_per_prompt)]
    requests = [
        Request(example_id=e.example_id, prompt_ids=e.prompt_ids, number=number)
        for e, number in pairs
    ]
    log = bench.log(f"task-{task.name}")
    kept = [log.answer(request) is not None for request in requests]
    started = time.perf_counter()
    answers = bench.answers(
        task.name,
        requests,
        task.decoding,
        stop=task.stop,
        stop_token_ids=task.stop_token_ids,
        answer_marker=task.answer_marker,
        log=log,
    )
    seconds = time.perf_counter() - started
    made = sum(a.new_tokens for a, was in zip(answers, kept, strict=True) if not was)
    summary = {
        "engine": bench.answering.identity(),
        "engine_note": bench.answering.note(),
        "finished": sum(answer.finished for answer in answers),
        "unfinished_thinking": sum(answer.unfinished_thinking for answer in answers),
        "new_tokens": sum(answer.new_tokens for answer in answers),
        "kept_from_before": sum(kept),
        "seconds_generating": seconds,
        "new_tokens_per_second": made / seconds,
    }
    return [example for example, _ in pairs], answers, summary


def _conditions(
    bench: Bench, task: GenerationTask, signatures: Mapping[str, str]
) -> dict[str, Any]:
    """What another subject's result must share to be compared with this one."""
    spec = bench.spec
    own_ids, own_marker = task.stop_token_ids, task.answer_marker
    return {
        "engine": bench.answering.identity(),
        "data": task.data,
        "limit": task.limit,
        "decoding": asdict(task.decoding),
        "stop": list(task.stop),
        "stop_token_ids": list(spec.stop_token_ids if own_ids is None else own_ids),
        "answer_marker": spec.answer_marker if own_marker is None else own_marker,
        "benchmark": task.benchmark,
        "leaks_compared": task.leaks_compared,
        "answers_per_prompt": task.answers_per_prompt,
        # Greedy answers do not depend on the seed.
        "seed": spec.seed if task.decoding.do_sample else None,
        "metrics": dict(signatures),
        "extract": None if task.extract is None else asdict(task.extract),
        "extract_reference": None
        if task.extract_reference is None
        else asdict(task.extract_reference),
    }
