"""What ``proofbox run`` calls in a fresh process: evaluate the base model or the saved adapter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from evalsuite.records import (
    ChoiceTask,
    Decoding,
    EvaluationSpec,
    GenerationTask,
    LmEvalTasks,
    Subject,
)
from runner.base_model.loaded_model import LoadedModel
from runner.benchmarks.benchmark_data import choices_file
from runner.benchmarks.lm_eval_source import lm_eval_folder
from runner.cache import cache_folder
from runner.commands.answering_engine import engine_spec, generation_tokens, other_engine
from runner.commands.metric_specs import (
    extraction_of,
    extraction_of_references,
    metric_specs,
)
from runner.data.preparation import PreparedData
from runner.errors import DataError, ExitCode
from runner.plan import Plan, judges_whole_model, plan_of_run
from runner.progress import Progress
from runner.recipe import Benchmark, DecodingBlock
from runner.recipe import GenerationTask as TaskBlock
from runner.stages import (
    check_partitions,
    code_execution_of,
    evaluation_batch_tokens,
    prepared_sets,
)
from runner.subject_evaluation import evaluated_names
from runner.target_model import example_rows, load_outside_adapter, load_whole_model
from runner.training.adapter_probe import (
    PROBE_ROWS,
    PROBE_TOKENS,
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
    recipe: Path,
    *,
    subject: Subject,
    run_id: str,
    runs: Path,
    device: str,
    out: Path,
    target: str | None = None,
    partial: Path | None = None,
) -> ExitCode:
    """Evaluate ``subject`` into the folder ``out``.

    ``target`` is what is judged instead of the run's own adapter. ``partial`` is where answers are
    kept as they are made, for this very evaluation after a kill.

    Raises:
        DataError: the recipe, data or model changed since the run began; the adapter on disk is
            not the trained one; or the base model does not give its recorded losses again.
    """
    from evalsuite.evaluation import evaluate_subject
    from runner.base_model.loaded_model import load_model, quiet_libraries
    from runner.data.preparation import prepare_data

    quiet_libraries()
    plan = plan_of_run(recipe, runs=runs, device=device, run_id=run_id, target=target)
    progress = Progress(plan.folder.path / "run.log")
    with progress.bar(f"evaluating the {subject}") as advance:
        advance(0, 1, "loading the base model")
        whole = subject == "adapter" and judges_whole_model(plan)
        loaded = (
            load_whole_model(plan)
            if whole
            else load_model(plan.recipe, plan.model, device=plan.device)
        )
        data = prepare_data(
            plan.recipe,
            plan.source,
            loaded.tokenizer,
            base_folder=plan.base_folder,
            cache_folder=cache_folder(),
            vocabulary=plan.model.vocabulary or None,
        )
        data = prepared_sets(plan, data, loaded.tokenizer, progress)
        check_partitions(plan.folder, data)
        spec = replace(
            evaluation_spec(plan, data, loaded),
            template_digests=template_digests(data),
            instrument_examples=_examples_twice(plan, subject),
        )
        used = {*spec.loss, *(t.data for t in spec.generation), *(t.data for t in spec.choices)}
        unchanged = whole or subject == "base"
        model = loaded.model if unchanged else _judged_adapter(plan, loaded, data)
        evaluate_subject(
            subject=subject,
            model=model,
            tokenizer=loaded.tokenizer,
            partitions={name: data.path(name) for name in used},
            spec=spec,
            folder=out,
            on_progress=lambda what, done, total: advance(done, total, what),
            engine=other_engine(plan, subject, spec, model, loaded.tokenizer),
            partial=partial,
        )
    return ExitCode.PASS


def _judged_adapter(plan: Plan, loaded: LoadedModel, data: PreparedData) -> Any:  # noqa: ANN401
    """The adapter from disk, after proof that it is the trained one, on the evaluated base."""
    repeated = _repeat_base(plan, data, loaded)
    if plan.target is not None:  # trained elsewhere: nothing in memory to compare it with
        # Where nothing but lm-eval's own tasks is asked, any row will do.
        file = data.path(next(iter([*evaluated_names(plan), *data.partitions])))
        rows = example_rows(file, rows=PROBE_ROWS, tokens=PROBE_TOKENS)
        return load_outside_adapter(loaded, plan.folder.adapter, rows)
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
    scored_before = [*(extra.name for extra in evaluation.held_out), *evaluation.loss]
    if not (evaluation.base and scored_before):
        return 0
    partition = scored_before[-1]
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


def template_digests(data: PreparedData) -> dict[str, str]:
    """Digest of the template of every partition and set of rows."""
    own = dict.fromkeys(data.partitions, data.template_digest)
    return {**own, **{name: extra.template_digest for name, extra in data.sets.items()}}


def _examples_twice(plan: Plan, subject: Subject) -> int:
    """Examples that are evaluated twice: of the base model, or of the adapter where it is alone."""
    evaluation = plan.recipe.evaluation
    return evaluation.instrument_check if subject == "base" or not evaluation.base else 0


def evaluation_spec(plan: Plan, data: PreparedData, loaded: LoadedModel) -> EvaluationSpec:
    """The recipe's evaluation block as the eval suite's record."""
    recipe = plan.recipe
    tasks = tuple(
        _task(block, plan.base_folder, data=block.data) for block in recipe.evaluation.generation
    )
    return EvaluationSpec(
        loss=(*recipe.evaluation.loss, *(extra.name for extra in recipe.evaluation.held_out)),
        divergence=tuple(e.name for e in recipe.evaluation.held_out if e.divergence),
        generation=(*tasks, *_asked_benchmarks(plan, data)),
        choices=tuple(
            ChoiceTask(
                name=found.name,
                data=found.name,
                choices=choices_file(cache_folder(), found, data.sets[found.name]),
                benchmark=found.digest,
                leaks_compared=found.block.leaks != "ignore",
            )
            for found in plan.benchmarks
            if found.block.kind == "multiple_choice"
        ),
        lm_eval=_lm_eval_tasks(plan, data),
        samples=_samples(plan, data, loaded),
        sample_decoding=tasks[0].decoding if tasks else decoding_of(DecodingBlock()),
        stop_token_ids=data.stop_token_ids,
        pad_token_id=pad_token_id(loaded),
        seed=recipe.seed,
        batch_tokens=evaluation_batch_tokens(recipe, loaded.device),
        answer_marker=data.answer_marker,
        engine=engine_spec(recipe),
        generation_tokens=generation_tokens(recipe),
        code_execution=code_execution_of(plan),
    )


def _task(block: TaskBlock | Benchmark, folder: Path, *, data: str) -> GenerationTask:
    """What a task and a benchmark have in common; paths in it start in ``folder``."""
    return GenerationTask(
        name=block.name,
        data=data,
        decoding=decoding_of(block.decoding),
        metrics=metric_specs(block.metrics, folder),
        extract=extraction_of(block.extract),
        extract_reference=extraction_of_references(block.extract),
        limit=block.limit,
        stop=block.stop,
        answers_per_prompt=block.answers,
    )


def _asked_benchmarks(plan: Plan, data: PreparedData) -> Iterator[GenerationTask]:
    """The benchmarks whose answers are generated, each with its own chat template's stop tokens."""
    for found in plan.benchmarks:
        if found.block.kind == "generation":
            prepared = data.sets[found.name]
            yield replace(
                _task(found.block, found.folder, data=found.name),
                limit=None,  # its rows were chosen when they were prepared
                benchmark=found.digest,
                leaks_compared=found.block.leaks != "ignore",
                stop_token_ids=prepared.stop_token_ids,
                answer_marker=prepared.answer_marker,
            )


def _lm_eval_tasks(plan: Plan, data: PreparedData) -> LmEvalTasks | None:
    block = plan.recipe.evaluation.lm_eval
    if block is None:
        return None
    return LmEvalTasks(
        **block.model_dump(exclude={"include_path", "leaks"}),
        include_path=lm_eval_folder(plan.recipe, plan.base_folder),
        chat_template=data.chat_template,
        thinking=data.thinking if block.apply_chat_template else None,
        leaks_compared=block.leaks != "ignore",
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
