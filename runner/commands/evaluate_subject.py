"""What ``proofbox run`` calls in a fresh process: evaluate the base model or the saved adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from evalsuite.records import Decoding, EvaluationSpec, GenerationTask, Subject
from runner.base_model.loaded_model import LoadedModel
from runner.data.preparation import PreparedData
from runner.errors import DataError, ExitCode
from runner.plan import Pinned, Plan, make_plan
from runner.progress import Progress
from runner.recipe import DecodingBlock
from runner.recipe_reading.recipe_file import read_recipe
from runner.stages import check_partitions, evaluation_batch_tokens
from runner.stored_json import read_json
from runner.training.adapter_probe import (
    check_reloaded,
    probe_logits,
    probe_rows,
    record_reload,
)
from runner.training.lora import load_adapter
from runner.training.train_adapter import read_training

# Base losses on this many rows are computed again in the process that judges the adapter.
REPEATED_ROWS = 8
REPEATED_TOLERANCE = 1e-4


def evaluate_subject_command(
    recipe: Path, *, subject: Subject, run_id: str, runs: Path, device: str, out: Path
) -> ExitCode:
    """Evaluate ``subject`` into the folder ``out``.

    Raises:
        DataError: the recipe, data or model changed since the run began; the adapter on disk is
            not the trained one; or the base model does not give its recorded losses again.
    """
    from evalsuite.evaluation import evaluate_subject
    from runner.base_model.loaded_model import load_model, quiet_libraries
    from runner.cache import cache_folder
    from runner.data.preparation import prepare_data

    quiet_libraries()
    plan = _plan_of_run(recipe, runs, device, run_id)
    progress = Progress(plan.folder.path / "run.log")
    with progress.bar(f"evaluating the {subject}") as advance:
        advance(0, 1, "loading the base model")
        loaded = load_model(plan.recipe, plan.model, device=plan.device)
        data = prepare_data(
            plan.recipe,
            plan.source,
            loaded.tokenizer,
            base_folder=plan.base_folder,
            cache_folder=cache_folder(),
            vocabulary=plan.model.vocabulary or None,
        )
        check_partitions(plan.folder, data)
        spec = evaluation_spec(plan, data, loaded)
        used = {*spec.loss, *(task.data for task in spec.generation)}
        evaluate_subject(
            subject=subject,
            model=loaded.model if subject == "base" else _judged_adapter(plan, loaded, data),
            tokenizer=loaded.tokenizer,
            partitions={name: data.path(name) for name in used},
            spec=spec,
            folder=out,
            on_progress=lambda what, done, total: advance(done, total, what),
        )
    return ExitCode.PASS


def _plan_of_run(recipe: Path, runs: Path, device: str, run_id: str) -> Plan:
    """The plan again, with the Hub's commits as the run resolved them."""
    name = read_recipe(recipe).name
    lock = read_json(runs / name / run_id / "lock.json")
    pinned = Pinned(data=tuple(lock["data"]["revisions"]), model=lock["model"]["revision"])
    plan = make_plan(recipe, runs=runs, device=device, pinned=pinned)
    if plan.run_id != run_id:
        raise DataError(
            f"{recipe}: the recipe, its data, its base model or the installed packages changed "
            "while the run was going on. Run it again."
        )
    return plan


def _judged_adapter(plan: Plan, loaded: LoadedModel, data: PreparedData) -> Any:  # noqa: ANN401
    """The adapter from disk, after proof that it is the trained one, on the evaluated base."""
    repeated = _repeat_base(plan, data, loaded)
    rows = probe_rows(plan.folder.probe)
    before = probe_logits(loaded.model, rows)
    model = load_adapter(loaded.model, plan.folder.adapter)
    training = read_training(plan.folder)
    dtypes = (str(loaded.dtype).removeprefix("torch."), training.dtype)
    worst = check_reloaded(before, probe_logits(model, rows), plan.folder.probe, dtypes)
    record_reload(plan.folder.reload, training.adapter_digest, worst, base_rows_repeated=repeated)
    return model


def _repeat_base(plan: Plan, data: PreparedData, loaded: LoadedModel) -> int:
    """Score a few rows before the adapter is put on; they must have the base's recorded losses."""
    from evalsuite.examples import read_examples
    from evalsuite.loss import score_examples
    from evalsuite.loss_evaluation import recorded_losses

    evaluation = plan.recipe.evaluation
    if not (evaluation.base and evaluation.loss):
        return 0
    partition = evaluation.loss[-1]
    recorded = recorded_losses(plan.folder.evaluation / "base", partition)
    scored = score_examples(
        loaded.model,
        read_examples(data.path(partition), limit=REPEATED_ROWS),
        pad_token_id=pad_token_id(loaded),
        batch_tokens=evaluation_batch_tokens(plan.recipe, plan.device),
    )
    tolerance = REPEATED_TOLERANCE if str(loaded.dtype) == "torch.float32" else 5e-2
    for score in scored:
        difference = abs(score.nll - recorded[score.example_id])
        if difference > tolerance * max(abs(score.nll), 1.0):
            raise DataError(
                f"without the adapter, example {score.example_id} has loss {score.nll:.6f}, but "
                f"{recorded[score.example_id]:.6f} is recorded for the base model: this is another "
                "base than the one that was evaluated. Run the recipe again with --restart."
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
        pad_token_id=pad_token_id(loaded),
        seed=recipe.seed,
        batch_tokens=evaluation_batch_tokens(recipe, loaded.device),
        answer_marker=data.answer_marker,
    )


def _samples(
    plan: Plan, data: PreparedData, loaded: LoadedModel
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    from runner.data.preparation import prompt_token_ids

    return tuple(
        (text, tuple(prompt_token_ids(loaded.tokenizer, plan.recipe, data, text)))
        for text in plan.recipe.evaluation.samples
    )


def pad_token_id(loaded: LoadedModel) -> int:
    """The padding token's id; ``configure_padding`` has made sure that there is one."""
    return int(cast(int, loaded.tokenizer.pad_token_id))


def decoding_of(block: DecodingBlock) -> Decoding:
    """The recipe's decoding block as the eval suite's record."""
    return Decoding(**block.model_dump())
