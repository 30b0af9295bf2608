"""One subject (base model or adapter) evaluated as declared, with every example's result stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.bench import Bench, Progress
from evalsuite.errors import EvaluationError
from evalsuite.evidence import LOSS_FILE
from evalsuite.generation import Engine
from evalsuite.instrument import measure_instrument
from evalsuite.lm_eval_tasks import evaluate_lm_eval
from evalsuite.loss_evaluation import evaluate_losses
from evalsuite.multiple_choice import evaluate_choices
from evalsuite.record_files import write_json
from evalsuite.records import EvaluationSpec, Subject
from evalsuite.sample_answers import write_samples
from evalsuite.task_evaluation import evaluate_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def evaluate_subject(
    *,
    subject: Subject,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    partitions: Mapping[str, Path],
    spec: EvaluationSpec,
    folder: Path,
    on_progress: Progress | None = None,
    engine: Engine | None = None,
    partial: Path | None = None,
) -> None:
    """Evaluate one subject and store every example's result in ``folder``.

    Writes ``loss.parquet``, a Parquet file for each task and benchmark, ``samples.json``,
    ``instrument.json`` where examples are evaluated twice and, last, ``summary.json``; each file
    is whole or not there.

    Args:
        subject: Which of the two is judged.
        model: The model in the state to be judged (adapter on or off).
        tokenizer: Decodes answers.
        partitions: Prepared Parquet file of each partition that ``spec`` names.
        spec: What is measured.
        folder: The subject's own, ``evaluation/<subject>``; made where it is not there.
        on_progress: Told label, examples done and examples in all after every batch.
        engine: Generates answers; None: transformers with ``model``.
        partial: Where answers are kept as they are made, so that the very same evaluation goes on
            after a kill; whoever names it sees to it that it is the same. None keeps none.

    Raises:
        EvaluationError: A partition is missing or unusable, a result is not finite, or a metric
            is not known.
    """
    _require_file_names(spec)
    started = time.perf_counter()
    bench = Bench(
        model=model,
        tokenizer=tokenizer,
        partitions=partitions,
        spec=spec,
        folder=folder,
        on_progress=on_progress,
        engine=engine,
        partial=partial,
    )
    losses = evaluate_losses(bench)
    tasks = {task.name: evaluate_task(bench, task) for task in spec.generation}
    choices = {task.name: evaluate_choices(bench, task) for task in spec.choices}
    harness = evaluate_lm_eval(bench, spec.lm_eval) if spec.lm_eval is not None else {}
    write_samples(bench)
    if spec.instrument_examples:
        measure_instrument(bench)
    summary = {
        "subject": subject,
        "loss": losses,
        "generation": tasks,
        "multiple_choice": choices,
        "lm_eval": harness,
        "seconds": time.perf_counter() - started,
    }
    write_json(summary, bench.folder / "summary.json")


def _require_file_names(spec: EvaluationSpec) -> None:
    """Every task needs a file of its own beside the held-out losses."""
    tasks = [*(task.name for task in spec.generation), *(task.name for task in spec.choices)]
    names = [Path(LOSS_FILE).stem, *tasks]
    for place, name in enumerate(names):
        if name in names[:place] or Path(name).name != name:
            raise EvaluationError(
                f"generation task {name!r}: its results need a file of their own. Name tasks "
                "differently from each other and from `loss`, without slashes."
            )
