"""Does training do what it promises, on this machine, with this model and a few of these rows?

A few steps are trained, in one go and in two sessions; gradients, files and figures are compared.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from safetensors.torch import load_file

from runner.base_model.loaded_model import LoadedModel
from runner.base_model.trained_tokens import token_ids
from runner.progress import Progress
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.training.adapter_files import WEIGHTS, folder_digest
from runner.training.adapter_probe import TOLERANCE, probe_logits, probe_rows
from runner.training.gradient_checks import REPORT, check_gradients
from runner.training.lora import load_adapter
from runner.training.self_check import (
    CONTINUED_TOLERANCE,
    Check,
    largest_difference,
    passed,
    within,
)
from runner.training.train_adapter import TrainedAdapter, train_adapter
from runner.training.training_rows import TrainingRow, row_sizes

if TYPE_CHECKING:
    from datasets import Dataset

    from runner.training.trainer import StepTrainer
    from runner.training.trainer_setup import TrainingTask

COMPARED = 4  # examples whose gradients are compared
TRAINED = 8  # examples of the few steps, and those with trained tokens beside
STEPS = 4
HALF = STEPS // 2
RELOADED = "adapter's logits, reloaded against in memory"
CHANGES = "adapter's effect on the base model's logits"
CONTINUED = f"{STEPS} steps, continued after {HALF} against in one go"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """What was tested: on ``device``, in ``dtype``, with ``lengths`` tokens of the examples."""

    device: str
    dtype: str
    lengths: tuple[int, ...]
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that do not hold."""
        return tuple(check for check in self.checks if check.failed)


def self_test(
    recipe: Recipe,
    load: Callable[[], LoadedModel],
    rows: Dataset,
    folder: Path,
    *,
    tell: Callable[[int, int, str], None] = lambda *_: None,
) -> SelfTest:
    """Test the training of ``recipe``.

    Args:
        recipe: As it is given; it is made short here.
        load: Loads the base model afresh.
        rows: The train partition.
        folder: A folder for temporary files.
        tell: Is told how far it is: parts done, all parts, what is being done.

    Raises:
        DataError, UsageError: what a training of the recipe would end with at once.
        torch.OutOfMemoryError: a few examples are too many for the memory.
    """
    tell(0, 3, f"training {STEPS} steps")
    straight, continued = RunFolder(folder / "straight"), RunFolder(folder / "continued")
    loaded = load()
    sample = rows.select(_sampled(rows, token_ids(loaded.tokenizer, recipe.lora.trained_tokens)))
    look = _Look(kept=continued.checkpoints)
    record = _trained(recipe, loaded, sample, straight, look)
    del loaded
    tell(1, 3, f"continuing after step {HALF}")
    _trained(recipe, load(), sample, continued)
    tell(2, 3, "reading the adapter back")
    checks = (
        *look.checks,
        *_check_saved(load(), straight, record.dtype),
        _check_continued(continued, straight, record, bytewise=_bytewise(recipe, record.device)),
    )
    _free()
    return SelfTest(device=record.device, dtype=record.dtype, lengths=look.lengths, checks=checks)


class _Look:
    """What is found out on the live model, after its last step."""

    def __init__(self, kept: Path) -> None:
        """The checkpoint in the middle is copied to ``kept``, as a killed process leaves it."""
        self.kept = kept
        self.checks: list[Check] = []
        self.lengths: tuple[int, ...] = ()

    def __call__(self, task: TrainingTask, trainer: StepTrainer) -> None:
        """Check gradients on the trainer's own engine."""
        name = f"checkpoint-{HALF}"
        shutil.copytree(task.folder.checkpoints / name, self.kept / name)
        rows = _training_rows(task.rows)
        compared = rows[:COMPARED]
        self.lengths = tuple(len(row.input_ids) for row in compared)
        self.checks = check_gradients(
            trainer.engine,
            compared,
            str(task.loaded.dtype).removeprefix("torch."),
            token_rows=rows[COMPARED:],
            token_ids=task.token_ids,
        )


def _trained(
    recipe: Recipe,
    loaded: LoadedModel,
    rows: Dataset,
    folder: RunFolder,
    look: _Look | None = None,
) -> TrainedAdapter:
    """Train the few steps, or what is left of them, without a word."""
    _free()
    folder.path.mkdir(exist_ok=True)
    silent = Progress(console=Console(quiet=True, force_terminal=False))
    return train_adapter(shortened(recipe), loaded, rows, folder, progress=silent, inspect=look)


def shortened(recipe: Recipe) -> Recipe:
    """The recipe with a few small steps, a checkpoint in the middle, and nobody who follows."""
    training = recipe.training.model_copy(
        update={
            "max_steps": STEPS,
            "epochs": None,
            "batch_size": min(recipe.training.batch_size, TRAINED // 2),
            "checkpoint_every": HALF,
            "validate_every": None,
            "log_every": 1,
            "trackers": (),
        }
    )
    return recipe.model_copy(update={"training": training})


def _sampled(rows: Dataset, tokens: Sequence[int]) -> list[int]:
    """Rows to train on: the first few of unequal lengths, more in which trained tokens occur."""
    lengths = row_sizes(rows).lengths
    ordered = sorted(range(len(rows)), key=lambda row: (lengths[row], row))
    count = min(TRAINED, len(rows))
    # From the middle of each part: the longest examples say nothing more, and take memory. Every
    # second one first, so that those that are compared differ most.
    spread = [ordered[(2 * part + 1) * len(rows) // (2 * count)] for part in range(count)]
    chosen = [*spread[::2], *spread[1::2]]
    missing = set(tokens)
    for row, ids in enumerate(rows["input_ids"] if missing else ()):
        if missing.intersection(ids):
            chosen.append(row)
            missing.difference_update(ids)
    return list(dict.fromkeys(chosen))


def _training_rows(rows: Dataset) -> list[TrainingRow]:
    pairs = zip(rows["input_ids"], rows["labels"], strict=True)
    return [
        TrainingRow(input_ids=torch.tensor(ids), labels=torch.tensor(labels))
        for ids, labels in pairs
    ]


def _check_saved(loaded: LoadedModel, trained: RunFolder, dtype: str) -> list[Check]:
    """The adapter on disk gives the logits that it gave in memory, and not the base model's."""
    ids = probe_rows(trained.probe)
    base = _by_name(probe_logits(loaded.model, ids))
    adapter = _by_name(probe_logits(load_adapter(loaded.model, trained.adapter), ids))
    stored = load_file(str(trained.probe))
    memory = {name: stored[f"logits.{name}"] for name in adapter}
    changed = largest_difference(adapter, base)
    advice = (
        "What is judged and released would not be what was trained. Try lora.variant: lora, and "
        f"model.dtype: float32. {REPORT}"
    )
    return [
        within(RELOADED, largest_difference(adapter, memory), TOLERANCE[dtype], advice=advice),
        Check(
            name=CHANGES,
            found=f"{changed:.2g}",
            allowed="more than 0",
            outcome=passed(changed > 0),
            advice=f"The saved adapter gives the base model's own logits. {advice}",
        ),
    ]


def _by_name(logits: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {str(place): tensor for place, tensor in enumerate(logits)}


def _check_continued(
    continued: RunFolder, straight: RunFolder, record: TrainedAdapter, *, bytewise: bool
) -> Check:
    """What a checkpoint lacks shows in the adapter that a continued training ends in."""
    found, wanted = (load_file(str(f.adapter / WEIGHTS)) for f in (continued, straight))
    allowed = 0.0 if bytewise else CONTINUED_TOLERANCE[record.dtype]
    check = within(
        CONTINUED,
        largest_difference(found, wanted),
        allowed,
        advice="A run that is interrupted and continued would end in another adapter. Let it run "
        f"through, or start over with --restart. {REPORT}",
    )
    if not bytewise:
        return check
    same = folder_digest(continued.adapter) == folder_digest(straight.adapter)
    return replace(check, allowed="the same bytes", outcome=passed(same))


def _bytewise(recipe: Recipe, device: str) -> bool:
    """Whether two trainings must give the same bytes: a GPU adds up in no fixed order."""
    return device == "cpu" or recipe.hardware.deterministic


def _free() -> None:
    """Give back the memory of models that nothing holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
