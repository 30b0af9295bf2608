"""One subject (base model or adapter) evaluated as declared, with every example's result stored."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.corpus_scores import figure_values
from evalsuite.errors import EvaluationError, EvidenceError
from evalsuite.evidence import LOSS_FILE
from evalsuite.examples import Example, read_examples
from evalsuite.generation import Answer, generate_answers
from evalsuite.loss import ExampleLoss, score_examples
from evalsuite.metrics import load_metric
from evalsuite.record_files import write_json
from evalsuite.records import Decoding, EvaluationSpec, GenerationTask, Subject
from evalsuite.results import read_loss, write_loss, write_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evalsuite.metrics.item_metric import ItemMetric

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What every part of one evaluation shares."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    partitions: Mapping[str, Path]
    spec: EvaluationSpec
    folder: Path
    on_progress: Progress | None

    def examples(self, partition: str, limit: int | None = None) -> list[Example]:
        """The examples of a partition, in its order."""
        if partition not in self.partitions:
            raise EvaluationError(
                f"partition {partition!r} is not prepared; there are "
                f"{', '.join(sorted(self.partitions))}."
            )
        return read_examples(self.partitions[partition], limit=limit)

    def counter(self, label: str, total: int) -> Callable[[int], None] | None:
        """Passes the number of finished examples on, under ``label``."""
        if self.on_progress is None:
            return None
        report = self.on_progress
        return lambda done: report(label, done, total)

    def answers(
        self, label: str, prompts: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Answer]:
        """Answers to ``prompts`` as declared."""
        return generate_answers(
            self.model,
            self.tokenizer,
            prompts,
            decoding=decoding,
            stop_token_ids=self.spec.stop_token_ids,
            pad_token_id=self.spec.pad_token_id,
            batch_tokens=self.spec.batch_tokens,
            seed=self.spec.seed,
            answer_marker=self.spec.answer_marker,
            on_progress=self.counter(label, len(prompts)),
        )


def evaluate_subject(
    *,
    subject: Subject,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    partitions: Mapping[str, Path],
    spec: EvaluationSpec,
    folder: Path,
    on_progress: Progress | None = None,
) -> None:
    """Evaluate one subject and store every example's result in ``folder``.

    Writes ``loss.parquet``, a Parquet file for each generation task, ``samples.json`` and, last,
    ``summary.json``; each file is whole or not there.

    Args:
        subject: Which of the two is judged.
        model: The model in the state to be judged (adapter on or off).
        tokenizer: Decodes answers.
        partitions: Prepared Parquet file of each partition that ``spec`` names.
        spec: What is measured.
        folder: The subject's own, ``evaluation/<subject>``; made where it is not there.
        on_progress: Told label, examples done and examples in all after every batch.

    Raises:
        EvaluationError: A partition is missing or unusable, a result is not finite, or a metric
            is not known.
    """
    _require_file_names(spec)
    started = time.perf_counter()
    bench = _Bench(
        model=model,
        tokenizer=tokenizer,
        partitions=partitions,
        spec=spec,
        folder=folder,
        on_progress=on_progress,
    )
    losses = _evaluate_losses(bench)
    tasks = {task.name: _evaluate_task(bench, task) for task in spec.generation}
    _write_samples(bench)
    summary = {
        "subject": subject,
        "loss": losses,
        "generation": tasks,
        "seconds": time.perf_counter() - started,
    }
    write_json(summary, bench.folder / "summary.json")


def _require_file_names(spec: EvaluationSpec) -> None:
    """Every task needs a file of its own beside the held-out losses."""
    names = [Path(LOSS_FILE).stem, *(task.name for task in spec.generation)]
    for place, name in enumerate(names):
        if name in names[:place] or Path(name).name != name:
            raise EvaluationError(
                f"generation task {name!r}: its results need a file of their own. Name tasks "
                "differently from each other and from `loss`, without slashes."
            )


def recorded_losses(folder: Path, partition: str) -> dict[str, float]:
    """Stored negative log-likelihood in nats of each example of ``partition``, by example id.

    Args:
        folder: The subject's own, ``evaluation/<subject>``.
        partition: One of those under ``evaluation.loss``.

    Raises:
        EvidenceError: The losses are missing or damaged, or the partition is not among them.
    """
    losses = read_loss(folder / LOSS_FILE)
    if partition not in losses:
        raise EvidenceError(
            f"{folder / LOSS_FILE}: holds no losses of {partition!r}, only of "
            f"{', '.join(sorted(losses))}; evaluate the model again."
        )
    stored = losses[partition]
    return dict(zip(stored.example_ids, stored.nll.tolist(), strict=True))


def _evaluate_losses(bench: _Bench) -> dict[str, dict[str, float]]:
    """Score every partition under ``evaluation.loss``; returns the summary of each."""
    losses: dict[str, list[ExampleLoss]] = {}
    summary: dict[str, dict[str, float]] = {}
    for partition in bench.spec.loss:
        examples = bench.examples(partition)
        started = time.perf_counter()
        losses[partition] = score_examples(
            bench.model,
            examples,
            pad_token_id=bench.spec.pad_token_id,
            batch_tokens=bench.spec.batch_tokens,
            on_progress=bench.counter(f"{partition} loss", len(examples)),
        )
        seconds = time.perf_counter() - started
        summary[partition] = _loss_summary(examples, losses[partition], seconds)
    if losses:
        write_loss(bench.folder / LOSS_FILE, losses)
    return summary


def _loss_summary(
    examples: Sequence[Example], losses: Sequence[ExampleLoss], seconds: float
) -> dict[str, float]:
    tokens = sum(len(example.input_ids) for example in examples)
    supervised = sum(loss.tokens for loss in losses)
    return {
        "examples": len(examples),
        "tokens": tokens,
        "supervised_tokens": supervised,
        "loss": sum(loss.nll for loss in losses) / supervised,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


def _evaluate_task(bench: _Bench, task: GenerationTask) -> dict[str, Any]:
    """Answer, score and store one generation task; returns its summary."""
    examples = bench.examples(task.data, task.limit)
    started = time.perf_counter()
    answers = bench.answers(task.name, [e.prompt_ids for e in examples], task.decoding)
    generated = time.perf_counter() - started
    with tempfile.TemporaryDirectory(prefix="proofbox-metrics-") as scratch:
        metrics = {name: load_metric(name, cache_dir=scratch) for name in task.metrics}
        scores, statistics = _score(metrics.values(), examples, answers)
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


def _score(
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


def _write_samples(bench: _Bench) -> None:
    """Answer the recipe's sample prompts."""
    samples = bench.spec.samples
    answers: list[Answer] = []
    if samples:
        prompts = [tokens for _, tokens in samples]
        answers = bench.answers("samples", prompts, bench.spec.sample_decoding)
    shown = [
        {"prompt": text, "prediction": answer.text, "finished": answer.finished}
        for (text, _), answer in zip(samples, answers, strict=True)
    ]
    write_json(shown, bench.folder / "samples.json")
