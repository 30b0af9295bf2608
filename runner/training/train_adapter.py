"""Training an adapter: from a base model and prepared rows to files on disk and their record."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from runner.base_model.loaded_model import LoadedModel
from runner.errors import DataError, MachineError
from runner.progress import Progress
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.stored_json import read_json, write_json
from runner.training.adapter_files import folder_digest, save_adapter, save_initial
from runner.training.adapter_probe import save_probe
from runner.training.checkpoints import checkpoint_step, newest_intact
from runner.training.lora import adapted_modules, attach_adapter, trainable_tensors
from runner.training.step_schedule import count_steps, make_schedule
from runner.training.trainer_setup import TrainingTask, make_trainer

if TYPE_CHECKING:
    from datasets import Dataset

    from runner.training.trainer import AdapterTrainer

MEASURED = "measured.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAdapter:
    """The adapter on disk and how it came about (``training.json``).

    ``adapter_digest`` and ``tokenizer_digest`` cover every file of their folders.

    ``history`` and ``validation`` are points {step, loss, …}; losses in nats per supervised token.
    """

    steps: int
    examples_per_step: int
    micro_batch_size: int
    epochs: float
    history: tuple[Mapping[str, float], ...]
    validation: tuple[Mapping[str, float], ...]
    seconds: float
    tokens: int
    tokens_per_second: float
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


def train_adapter(
    recipe: Recipe,
    loaded: LoadedModel,
    rows: Dataset,
    folder: RunFolder,
    *,
    progress: Progress,
    validate: Callable[[Any, int], float] | None = None,
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

    Raises:
        DataError: no rows, a loss that is no number, adapter weights that get no gradient.
    """
    if len(rows) == 0:
        raise DataError("the train partition is empty: there is nothing to train on")
    task = _task(recipe, loaded, rows, folder)
    pissa = recipe.lora.variant == "pissa"
    initial = save_initial(task.model, folder.path / "initial_adapter") if pissa else None
    trainer, decisions = make_trainer(task, validate)
    for decision in decisions:
        progress.announce(f"  {decision}")
    _run_trainer(trainer, folder, progress)
    digest = save_adapter(task.model, folder.adapter, base=recipe.model.base, initial=initial)
    save_probe(task.model, rows, folder.probe)
    record = _record(task, trainer, digest, decisions)
    write_json(folder.training, asdict(record))
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return record


def _task(recipe: Recipe, loaded: LoadedModel, rows: Dataset, folder: RunFolder) -> TrainingTask:
    lengths = [len(ids) for ids in rows["input_ids"]]
    steps = count_steps(recipe.training, len(rows))
    batch_size = recipe.training.batch_size
    return TrainingTask(
        recipe=recipe,
        loaded=loaded,
        model=attach_adapter(loaded.model, recipe.lora, seed=recipe.seed),
        rows=rows,
        lengths=lengths,
        schedule=make_schedule(lengths, steps=steps, batch_size=batch_size, seed=recipe.seed),
        folder=folder,
    )


def _run_trainer(trainer: AdapterTrainer, folder: RunFolder, progress: Progress) -> None:
    measured = trainer.measured
    checkpoint = newest_intact(folder.checkpoints, progress.announce)
    if checkpoint is not None:
        step = checkpoint_step(checkpoint)
        measured.restore(read_json(checkpoint / MEASURED))
        measured.resumed_from.append(step)
        progress.announce(f"  continuing after step {step}")
    total = len(trainer.schedule.steps)
    with progress.bar("training") as advance:
        measured.on_step = lambda step, loss, speed: advance(step, total, _bar_text(loss, speed))
        with _eager_on_cpu(trainer.args.use_cpu):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


@contextmanager
def _eager_on_cpu(on_cpu: bool) -> Iterator[None]:
    """Keep TRL's output head from being compiled on a CPU: 13 s before the first step, no gain."""
    import torch

    if on_cpu:
        torch.compiler.set_stance("force_eager")
    try:
        yield
    finally:
        torch.compiler.set_stance("default")


def _bar_text(loss: float | None, speed: float) -> str:
    shown = "" if loss is None else f"loss {loss:.3f}, "
    return f"{shown}{speed:,.0f} tokens/s"


def _record(
    task: TrainingTask, trainer: AdapterTrainer, digest: str, decisions: tuple[str, ...]
) -> TrainedAdapter:
    measured, schedule = trainer.measured, task.schedule
    tokens = sum(schedule.tokens(task.lengths))
    return TrainedAdapter(
        steps=len(schedule.steps),
        examples_per_step=task.recipe.training.batch_size,
        micro_batch_size=trainer.args.per_device_train_batch_size,
        epochs=len(schedule) / len(task.lengths),
        history=tuple(measured.history),
        validation=tuple(measured.validation),
        seconds=measured.seconds,
        tokens=tokens,
        tokens_per_second=tokens / measured.seconds if measured.seconds else 0.0,
        peak_memory_bytes=peak_memory(),
        trainable_parameters=sum(p.numel() for p in trainable_tensors(task.model).values()),
        total_parameters=sum(p.numel() for p in task.model.parameters()),
        adapter_digest=digest,
        tokenizer_digest=folder_digest(task.folder.tokenizer),
        device=task.loaded.device,
        dtype=str(task.loaded.dtype).removeprefix("torch."),
        target_modules=tuple(adapted_modules(task.model)),
        resumed_from=tuple(measured.resumed_from),
        decisions=decisions,
    )


def read_training(folder: RunFolder) -> TrainedAdapter:
    """The stored record of a finished training.

    Raises:
        MachineError: it is missing, damaged, or of another version.
    """
    stored = read_json(folder.training)
    lists = ("history", "validation", "target_modules", "resumed_from", "decisions")
    try:
        return TrainedAdapter(**{**stored, **{name: tuple(stored[name]) for name in lists}})
    except (KeyError, TypeError) as error:
        raise MachineError(
            f"{folder.training}: not a record of this version of proofbox ({error}). "
            "Run the recipe again with --restart."
        ) from None


def peak_memory() -> int:
    """Most memory used so far, in bytes: of the GPU where it is used, else of this process."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
