"""Training an adapter: from a base model and prepared rows to files on disk and their record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from runner.base_model.base_weights import weights_digest
from runner.base_model.loaded_model import LoadedModel
from runner.base_model.sharded_loading import hold_whole_adapter
from runner.base_model.trained_tokens import token_ids
from runner.digests import digest_of_json
from runner.errors import DataError, MachineError
from runner.progress import Advance, Progress
from runner.recipe import Recipe
from runner.recipe.option_reads import OptionReads
from runner.run_folder import RunFolder
from runner.stored_json import read_json, write_json
from runner.training.adapter_files import folder_digest, initial_matrices, save_adapter
from runner.training.adapter_probe import probe_of, save_probe
from runner.training.checkpoints import checkpoint_step, newest_intact
from runner.training.device_memory import peak_memory, restart_peak
from runner.training.devices import Strategy
from runner.training.gradient_passage import check_passage
from runner.training.lora import adapted_modules, attach_adapter, trainable_tensors
from runner.training.ranks import ALONE, Ranks, digest_of_tensors
from runner.training.sessions import Session, session
from runner.training.step_schedule import count_steps, make_schedule
from runner.training.token_rows import check_tokens_occur, token_decisions
from runner.training.trackers import tracked
from runner.training.trainer_setup import TrainingTask, make_trainer
from runner.training.whole_modules import narrow_whole_modules

if TYPE_CHECKING:
    from datasets import Dataset

    from runner.training.trainer import StepTrainer

MEASURED = "measured.json"
_TOLD = 5  # overflowing steps by number, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAdapter:
    """The adapter on disk and how it came about (``training.json``).

    ``adapter_digest`` and ``tokenizer_digest`` cover every file of their folders.

    ``history`` and ``validation`` are points {step, loss, …}; losses in nats per supervised token.
    ``padding``, ``supervised`` and ``utilization`` are shares (`live_figures.Figures`).
    ``seconds`` are those of the steps; ``wall_seconds`` those of all ``sessions`` {first, last,
    seconds}, with validation, checkpoints, and steps that were lost and made again.
    """

    steps: int
    examples_per_step: int
    micro_batch_tokens: int
    epochs: float
    history: tuple[Mapping[str, float], ...]
    validation: tuple[Mapping[str, float], ...]
    seconds: float
    wall_seconds: float
    sessions: tuple[Mapping[str, float], ...]
    tokens: int
    tokens_per_second: float
    padding: float
    supervised: float
    utilization: float | None
    peak_memory_bytes: int
    trainable_parameters: int
    total_parameters: int
    adapter_digest: str
    tokenizer_digest: str
    device: str
    dtype: str
    target_modules: tuple[str, ...]
    resumed_from: tuple[int, ...]
    decisions: tuple[str, ...]
    devices: int
    strategy: Strategy


def train_adapter(
    recipe: Recipe,
    loaded: LoadedModel,
    rows: Dataset,
    folder: RunFolder,
    *,
    progress: Progress,
    validate: Callable[[Any, int], float] | None = None,
    ranks: Ranks = ALONE,
    inspect: Callable[[TrainingTask, StepTrainer], None] | None = None,
) -> TrainedAdapter:
    """Train, or continue an interrupted training, and save the adapter to ``folder.adapter``.

    Args:
        recipe: Its ``lora``, ``training``, ``hardware`` and ``seed`` are read.
        loaded: The base model; it is changed (an adapter is attached).
        rows: ``input_ids`` and ``labels``, tokenized and labelled.
        folder: Receives checkpoints, the adapter, the probe and ``training.json``.
        progress: Where to report.
        validate: Held-out loss of a model, given its padding token's id, in nats per supervised
            token.
        ranks: The processes that train together; the first of them writes.
        inspect: Is shown the live model and trainer, and checkpoints, before anything is saved.

    Raises:
        DataError: no rows, a loss that is no number, adapter weights that get no gradient, or a
            trained token that is in no row.
        MachineError: the processes do not have the same rows, order or adapter.
        DefectError: an option of the recipe was read by nothing.
    """
    if len(rows) == 0:
        raise DataError("the train partition is empty: there is nothing to train on")
    restart_peak(loaded.device)
    reads = OptionReads(recipe)
    recipe = reads.recipe
    task = _task(recipe, loaded, rows, folder, progress=progress, ranks=ranks)
    ranks.check_same(_digests(task, "before training"))
    pissa = recipe.lora.variant == "pissa" and ranks.first
    initial = initial_matrices(task.model) if pissa else None
    with _repeatable(recipe.hardware.deterministic):
        trainer, decided = make_trainer(task, validate)
        decisions = (*token_decisions(loaded.tokenizer, recipe.lora), *decided)
        for decision in decisions:
            progress.announce(f"  {decision}")
        sessions = _run_trainer(trainer, task, progress, reads)
        if inspect is not None:
            inspect(task, trainer)
    narrow_whole_modules(task.model)
    ranks.check_same(_digests(task, "after training"))
    probe = probe_of(
        task.model, rows, token_ids=task.token_ids
    )  # in every process: weights may be shared out
    peak = max(ranks.of_all(peak_memory(loaded.device)))
    source = loaded.source
    bound = None if source is None else weights_digest(source, recipe.quantization)

    def saved() -> TrainedAdapter:
        digest = save_adapter(
            task.model,
            folder.adapter,
            base=recipe.model.base,
            base_weights=bound,
            initial=initial,
        )
        save_probe(probe, folder.probe)
        record = _record(task, trainer, digest, decisions, peak=peak, sessions=sessions)
        write_json(folder.training, asdict(record))
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        return record

    return ranks.from_first(saved)


def _digests(task: TrainingTask, when: str) -> dict[str, str]:
    """What all processes that train together must have in common, by name."""
    return {
        "the order of the examples": digest_of_json([task.schedule.steps, task.sizes.lengths]),
        f"the adapter {when}": digest_of_tensors(trainable_tensors(task.model)),
    }


def _task(
    recipe: Recipe,
    loaded: LoadedModel,
    rows: Dataset,
    folder: RunFolder,
    *,
    progress: Progress,
    ranks: Ranks,
) -> TrainingTask:
    from runner.training.training_rows import row_sizes

    sizes = row_sizes(rows)
    trained = recipe.lora.trained_tokens
    ids = tuple(token_ids(loaded.tokenizer, trained))
    check_tokens_occur(rows, dict(zip(trained, ids, strict=True)))
    model = attach_adapter(loaded.model, recipe.lora, seed=recipe.seed, token_ids=ids)
    hold_whole_adapter(model)
    check_passage(model)
    return TrainingTask(
        recipe=recipe,
        loaded=loaded,
        model=model,
        rows=rows,
        token_ids=ids,
        sizes=sizes,
        schedule=make_schedule(
            sizes.lengths,
            steps=count_steps(recipe.training, len(rows)),
            batch_size=recipe.training.batch_size,
            seed=recipe.seed,
        ),
        folder=folder,
        ranks=ranks,
        announce=progress.announce,
    )


def _run_trainer(
    trainer: StepTrainer, task: TrainingTask, progress: Progress, reads: OptionReads
) -> tuple[Session, ...]:
    """Train to the end; gives all sessions that it took, this one last."""
    measured, checkpoints = trainer.measured, task.folder.checkpoints
    checkpoint = task.ranks.from_first(lambda: newest_intact(checkpoints, progress.announce))
    if checkpoint is not None:
        step = checkpoint_step(checkpoint)
        measured.restore(read_json(checkpoint / MEASURED))
        measured.resumed_from.append(step)
        progress.announce(f"  continuing after step {step}")
    after = 0 if checkpoint is None else checkpoint_step(checkpoint)
    with (
        session(checkpoints, first=after, notes=task.ranks.first) as clock,
        _followed(trainer, task, after),
        progress.bar("training", tells_time=True) as advance,
    ):
        measured.on_step = _both(clock.beat, advance, total=len(trainer.shares.schedule.steps))
        if task.ranks.first:  # the others leave trackers and files to it
            reads.check()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return clock.sessions


@contextmanager
def _followed(trainer: StepTrainer, task: TrainingTask, after: int) -> Iterator[None]:
    """Let the recipe's trackers follow; of several processes only the first is followed."""
    recipe = task.recipe
    wanted = recipe.training.trackers
    names = wanted if task.ranks.first else ()
    described = recipe.model_dump(mode="json")
    place = task.folder.path
    with tracked(names, described, place, after=after, announce=task.announce) as trackers:
        for callback in trackers.callbacks:
            trainer.add_callback(callback)
        trainer.measured.track = trackers.log
        yield


def _both(
    beat: Callable[[int], None], advance: Advance, *, total: int
) -> Callable[[int, str], None]:
    def step_done(step: int, text: str) -> None:
        beat(step)
        advance(step, total, text)

    return step_done


@contextmanager
def _repeatable(wanted: bool) -> Iterator[None]:
    """Allow only operations that give the same bytes every time, where that is wanted."""
    import torch

    if not wanted:
        yield
        return
    # cuBLAS reads this when it is first used (PyTorch's notes on reproducibility).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _record(
    task: TrainingTask,
    trainer: StepTrainer,
    digest: str,
    decisions: tuple[str, ...],
    *,
    peak: int,
    sessions: tuple[Session, ...],
) -> TrainedAdapter:
    measured, schedule = trainer.measured, task.schedule
    figures = measured.figures.whole()
    tokens = sum(schedule.tokens(task.sizes.lengths))
    return TrainedAdapter(
        steps=len(schedule.steps),
        examples_per_step=task.recipe.training.batch_size,
        micro_batch_tokens=trainer.engine.budget.tokens,
        epochs=len(schedule) / len(task.rows),
        history=tuple(measured.history),
        validation=tuple(measured.validation),
        seconds=measured.seconds,
        wall_seconds=sum(session.seconds for session in sessions),
        sessions=tuple(asdict(session) for session in sessions),
        tokens=tokens,
        tokens_per_second=figures.tokens_per_second,
        padding=figures.padding,
        supervised=figures.supervised,
        utilization=figures.utilization,
        peak_memory_bytes=peak,
        trainable_parameters=sum(p.numel() for p in trainable_tensors(task.model).values()),
        total_parameters=sum(p.numel() for p in task.model.parameters()),
        adapter_digest=digest,
        tokenizer_digest=folder_digest(task.folder.tokenizer),
        device=task.loaded.device,
        dtype=str(task.loaded.dtype).removeprefix("torch."),
        target_modules=tuple(adapted_modules(task.model)),
        resumed_from=tuple(measured.resumed_from),
        decisions=(
            *decisions,
            *trainer.engine.changes(),
            *_overflows(measured.skipped, len(schedule.steps)),
        ),
        devices=task.ranks.count,
        strategy=task.ranks.strategy,
    )


def read_training(folder: RunFolder) -> TrainedAdapter:
    """The stored record of a finished training.

    Raises:
        MachineError: it is missing, damaged, or of another version.
    """
    stored = read_json(folder.training)
    lists = (
        *("history", "validation", "sessions"),
        *("target_modules", "resumed_from", "decisions"),
    )
    try:
        return TrainedAdapter(**{**stored, **{name: tuple(stored[name]) for name in lists}})
    except (KeyError, TypeError) as error:
        raise MachineError(
            f"{folder.training}: not a record of this version of proofbox ({error}). "
            "Run the recipe again with --restart."
        ) from None


def _overflows(skipped: Sequence[int], steps: int) -> tuple[str, ...]:
    """What is said of the steps that float16 left out."""
    if not skipped:
        return ()
    at = ", ".join(map(str, skipped[:_TOLD])) + (", ..." if len(skipped) > _TOLD else "")
    return (
        f"model.dtype: float16: the gradients of {len(skipped)} of {steps} steps overflowed, and "
        f"these steps changed nothing (steps {at})",
    )
