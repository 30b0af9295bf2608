"""From a recipe's training block to a trainer: optimizer, micro-batches, trackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from runner.base_model.loaded_model import LoadedModel
from runner.errors import DataError
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.training.checkpoints import KEPT
from runner.training.step_schedule import StepSchedule

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig

    from runner.training.trainer import AdapterTrainer, Measured

# What runs where bitsandbytes or CUDA is missing. Both compute AdamW.
NEEDS_CUDA = {"adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"}
OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_32bit": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
# Measured on 2 cores (docs/decisions/0005): small micro-batches of rows of one length beat one
# padded batch on a CPU; on a GPU the larger the better, up to the memory that activations take.
CPU_MICRO_BATCH_TOKENS = 1024
CUDA_MICRO_BATCH_TOKENS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What is trained, on what, in which order, and where it is kept. ``lengths`` in tokens."""

    recipe: Recipe
    loaded: LoadedModel
    model: PeftModel
    rows: Dataset
    lengths: list[int]
    schedule: StepSchedule
    folder: RunFolder


def choose_optimizer(wanted: str, device: str) -> tuple[str, str | None]:
    """The optimizer's name for transformers, and a sentence where it is not the wanted one."""
    if wanted not in NEEDS_CUDA:
        return OPTIMIZERS[wanted], None
    if device == "cuda" and find_spec("bitsandbytes") is not None:
        return OPTIMIZERS[wanted], None
    lacking = "no CUDA device" if device != "cuda" else "bitsandbytes is not installed"
    return "adamw_torch", f"training.optimizer: adamw instead of {wanted} ({lacking})"


def choose_micro_batch(
    wanted: int | str, *, batch_size: int, longest: int, average: float, device: str
) -> int:
    """Examples per forward pass: the recipe's, or the largest divisor within a token budget.

    ``longest`` and ``average`` are lengths of the training rows in tokens. On a CPU the average
    counts (rows of a micro-batch have nearly one length); on a GPU the longest does, for memory.
    """
    if isinstance(wanted, int):
        if batch_size % wanted:
            raise DataError(
                f"hardware.micro_batch_size: {wanted} does not divide training.batch_size "
                f"{batch_size}; choose one of {_divisors(batch_size)}, or auto"
            )
        return wanted
    if device == "cuda":
        fits = CUDA_MICRO_BATCH_TOKENS // max(longest, 1)
    else:
        fits = int(CPU_MICRO_BATCH_TOKENS // max(average, 1))
    return max(d for d in _divisors(batch_size) if d <= max(fits, 1))


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def make_trainer(
    task: TrainingTask, validate: Callable[[Any, int], float] | None
) -> tuple[AdapterTrainer, tuple[str, ...]]:
    """A trainer ready to start, and the decisions that were left to the machine, as sentences."""
    from runner.training.trainer import AdapterTrainer, EveryTensorLearns, Measured, PaddingCollator

    training, tokenizer = task.recipe.training, task.loaded.tokenizer
    optimizer, substituted = choose_optimizer(training.optimizer, task.loaded.device)
    micro = choose_micro_batch(
        task.recipe.hardware.micro_batch_size,
        batch_size=training.batch_size,
        longest=max(task.lengths),
        average=sum(task.lengths) / len(task.lengths),
        device=task.loaded.device,
    )
    pad: Any = tokenizer.pad_token_id
    measured = Measured(
        tokens=task.schedule.tokens(task.lengths),
        validate_every=training.validate_every,
        validate=None if validate is None else lambda: validate(task.model, pad),
    )
    trainer = AdapterTrainer(
        schedule=task.schedule,
        measured=measured,
        model=task.model,
        args=_arguments(task, micro, optimizer),
        train_dataset=task.rows,
        data_collator=PaddingCollator(pad),
        processing_class=tokenizer,
        callbacks=[measured, EveryTensorLearns(task.model), *_tensorboard(task, measured)],
    )
    _only_our_output(trainer)
    decided = f"micro-batches of {micro} of the step's {training.batch_size} examples"
    return trainer, (decided, *((substituted,) if substituted else ()))


def _arguments(task: TrainingTask, micro: int, optimizer: str) -> SFTConfig:
    import torch
    from trl.trainer.sft_config import SFTConfig

    training, loaded, steps = task.recipe.training, task.loaded, len(task.schedule.steps)
    every = training.checkpoint_every or training.validate_every or max(steps // 10, 1)
    return SFTConfig(
        output_dir=str(task.folder.checkpoints),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=training.batch_size // micro,
        learning_rate=training.learning_rate,
        lr_scheduler_type=SCHEDULES[training.schedule],
        warmup_steps=training.warmup_ratio,
        optim=optimizer,
        weight_decay=training.weight_decay,
        # transformers reads 0 as "do not clip".
        max_grad_norm=training.max_grad_norm or 0.0,
        neftune_noise_alpha=training.neftune_alpha,
        logging_steps=training.log_every,
        save_steps=every,
        save_total_limit=KEPT,
        activation_checkpointing=task.recipe.hardware.activation_checkpointing is True,
        seed=task.recipe.seed,
        data_seed=task.recipe.seed,
        use_cpu=loaded.device == "cpu",
        bf16=loaded.device == "cuda" and loaded.dtype == torch.bfloat16,
        fp16=loaded.device == "cuda" and loaded.dtype == torch.float16,
        report_to=[],
        disable_tqdm=True,
        eval_strategy="no",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=True,
    )


def _tensorboard(task: TrainingTask, measured: Measured) -> list[TrainerCallback]:
    """TensorBoard's callback, if the recipe asks for it; it gets the validation loss too."""
    if "tensorboard" not in task.recipe.training.trackers:
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    writer = SummaryWriter(log_dir=str(task.folder.path / "events"))
    measured.track = lambda step, loss: writer.add_scalar("validation/loss", loss, step)
    return [TensorBoardCallback(writer)]


def _only_our_output(trainer: AdapterTrainer) -> None:
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
