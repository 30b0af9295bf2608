"""What ``proofbox run`` calls in a fresh process: evaluate the base model or the saved adapter."""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path
from typing import Any

from evalsuite.records import Decoding, EvaluationSpec, GenerationTask, Subject
from runner.base_model.loaded_model import LoadedModel
from runner.data.preparation import PreparedData
from runner.errors import DataError, ExitCode
from runner.plan import Plan, make_plan
from runner.progress import Progress
from runner.recipe import DecodingBlock
from runner.stages import evaluation_batch_tokens
from runner.stored_json import read_json, write_json

# Base losses on this many rows are computed again beside the adapter, adapter switched off.
REPEATED_ROWS = 8
REPEATED_TOLERANCE = 1e-4


def evaluate_subject_command(
    recipe: Path, *, subject: Subject, run_id: str, runs: Path, device: str
) -> ExitCode:
    """Evaluate ``subject`` into the run folder.

    Raises:
        DataError: the recipe, data or model changed since the run began; the adapter on disk is
            not the trained one; or the base model does not give its recorded losses again.
    """
    from evalsuite.evaluation import evaluate_subject
    from runner.base_model.loaded_model import load_model, quiet_libraries
    from runner.cache import cache_folder
    from runner.data.preparation import prepare_data

    die_with_parent()
    quiet_libraries()
    plan = make_plan(recipe, runs=runs, device=device)
    if plan.run_id != run_id:
        raise DataError(
            f"{recipe}: the recipe, its data, its base model or the installed packages changed "
            "while the run was going on. Run it again."
        )
    progress = Progress(plan.folder.path / "run.log")
    loaded = load_model(plan.recipe, plan.model, device=plan.device)
    data = prepare_data(
        plan.recipe,
        plan.source,
        loaded.tokenizer,
        base_folder=plan.base_folder,
        cache_folder=cache_folder(),
    )
    _check_partitions(plan, data)
    spec = evaluation_spec(plan, data, loaded)
    used = {*spec.loss, *(task.data for task in spec.generation)}
    with progress.bar(f"evaluating the {subject}") as advance:
        evaluate_subject(
            subject=subject,
            model=loaded.model if subject == "base" else _judged_adapter(plan, loaded, data),
            tokenizer=loaded.tokenizer,
            partitions={name: data.path(name) for name in used},
            spec=spec,
            folder=plan.folder.evaluation / subject,
            on_progress=lambda what, done, total: advance(done, total, what),
        )
    return ExitCode.PASS


def _check_partitions(plan: Plan, data: PreparedData) -> None:
    """Membership of every partition is what the lock says, also in this process."""
    locked = read_json(plan.folder.lock)["partitions"]
    found = {name: part.digest for name, part in data.partitions.items()}
    if found != locked:
        changed = ", ".join(sorted(n for n in {*locked, *found} if locked.get(n) != found.get(n)))
        raise DataError(
            f"the partitions {changed} hold other rows here than lock.json says. "
            "Run the recipe again."
        )


def die_with_parent() -> None:
    """End this process when the run that started it is killed, so that nobody works unasked.

    Only Linux can do this; elsewhere the orphan finishes and its result is simply not taken.
    """
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _judged_adapter(plan: Plan, loaded: LoadedModel, data: PreparedData) -> Any:  # noqa: ANN401
    """The adapter from disk, after proof that it is the trained one on the evaluated base."""
    from runner.training.adapter_probe import check_reloaded, probe_logits, probe_rows
    from runner.training.lora import load_adapter

    rows = probe_rows(plan.folder.probe)
    before = probe_logits(loaded.model, rows)
    model = load_adapter(loaded.model, plan.folder.adapter)
    dtype = str(loaded.dtype).removeprefix("torch.")
    worst = check_reloaded(before, probe_logits(model, rows), plan.folder.probe, dtype)
    repeated = _repeat_base(plan, data, loaded, model)
    write_json(
        plan.folder.path / "reload.json",
        {"largest_logit_difference": worst, "base_rows_repeated": repeated},
    )
    return model


def _repeat_base(
    plan: Plan,
    data: PreparedData,
    loaded: LoadedModel,
    model: Any,  # noqa: ANN401 - a live model
) -> int:
    """Score a few rows with the adapter switched off; they must have the base's recorded losses."""
    from evalsuite.evaluation import recorded_losses
    from evalsuite.examples import read_examples
    from evalsuite.loss import score_examples

    evaluation = plan.recipe.evaluation
    if not (evaluation.base and evaluation.loss):
        return 0
    partition = evaluation.loss[-1]
    examples = read_examples(data.path(partition), limit=REPEATED_ROWS)
    recorded = recorded_losses(plan.folder.evaluation / "base", partition)
    with model.disable_adapter():
        scored = score_examples(
            model,
            examples,
            pad_token_id=loaded.tokenizer.pad_token_id,
            batch_tokens=evaluation_batch_tokens(plan.recipe, plan.device),
            on_progress=None,
        )
    tolerance = REPEATED_TOLERANCE if str(loaded.dtype) == "torch.float32" else 5e-2
    for score in scored:
        difference = abs(score.nll - recorded[score.example_id])
        if difference > tolerance * max(abs(score.nll), 1.0):
            raise DataError(
                f"with the adapter switched off, example {score.example_id} has loss "
                f"{score.nll:.6f}, but {recorded[score.example_id]:.6f} is recorded for the base "
                "model: the adapter sits on another base than the one that was evaluated."
            )
    return len(scored)


def evaluation_spec(plan: Plan, data: PreparedData, loaded: LoadedModel) -> EvaluationSpec:
    """The recipe's evaluation block as the eval suite's record."""
    recipe = plan.recipe
    tasks = tuple(
        GenerationTask(
            name=task.name,
            data=task.data,
            decoding=decoding_of(task.decoding),
            metrics=task.metrics,
            limit=task.limit,
        )
        for task in recipe.evaluation.generation
    )
    return EvaluationSpec(
        loss=recipe.evaluation.loss,
        generation=tasks,
        samples=_samples(plan, data, loaded),
        sample_decoding=tasks[0].decoding if tasks else decoding_of(DecodingBlock()),
        stop_token_ids=data.stop_token_ids,
        pad_token_id=loaded.tokenizer.pad_token_id,
        seed=recipe.seed,
        batch_tokens=evaluation_batch_tokens(recipe, loaded.device),
    )


def _samples(
    plan: Plan, data: PreparedData, loaded: LoadedModel
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    from runner.data.preparation import prompt_token_ids

    return tuple(
        (text, tuple(prompt_token_ids(loaded.tokenizer, plan.recipe, data, text)))
        for text in plan.recipe.evaluation.samples
    )


def decoding_of(block: DecodingBlock) -> Decoding:
    """The recipe's decoding block as the eval suite's record."""
    return Decoding(**block.model_dump())
