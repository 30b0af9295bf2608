"""From a recipe's blocks to a trainer: optimizer, engine, trackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from evalsuite.positions import check_positions
from runner.base_model.loaded_model import LoadedModel
from runner.base_model.sharded_loading import gather_outside_layers
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.training.activation_memory import checkpoint_layers
from runner.training.attention_choice import AttentionChoice, choose_attention
from runner.training.checkpoints import KEPT
from runner.training.device_memory import free_bytes, peak_memory
from runner.training.heap import keep_freed_memory, return_freed_memory
from runner.training.memory_choice import MemoryChoice, choose_memory
from runner.training.memory_estimate import TrainedRows, estimate_memory, skeleton_of
from runner.training.optimizers import choose_optimizer
from runner.training.ranks import ALONE, Ranks
from runner.training.step_schedule import StepSchedule
from runner.training.token_budget import planned_tokens
from runner.training.token_rows import first_steps

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig

    from runner.training.computing_memory import Device
    from runner.training.layer_compilation import Compilation
    from runner.training.live_figures import LiveFigures
    from runner.training.measured import Measured
    from runner.training.step_engine import StepEngine
    from runner.training.trainer import StepTrainer
    from runner.training.training_rows import RowSizes

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What is trained, on what, in which order, and where it is kept.

    ``token_ids`` are those of the recipe's trained tokens, in their order. This process is one of
    ``ranks``; ``announce`` tells the user a line.
    """

    recipe: Recipe
    loaded: LoadedModel
    model: PeftModel
    rows: Dataset
    token_ids: tuple[int, ...] = ()
    sizes: RowSizes
    schedule: StepSchedule
    folder: RunFolder
    ranks: Ranks = ALONE
    announce: Callable[[str], None] = lambda _text: None


def make_trainer(
    task: TrainingTask, validate: Callable[[Any, int], float] | None
) -> tuple[StepTrainer, tuple[str, ...]]:
    """A trainer ready to start, and the decisions that were left to the machine, as sentences."""
    from runner.training.adapter_precision import adapter_precision
    from runner.training.measured import Measured
    from runner.training.same_adapter import SameAdapter
    from runner.training.trainer import StepTrainer
    from runner.training.training_rows import StepShares

    training, tokenizer = task.recipe.training, task.loaded.tokenizer
    optimizer, substituted = choose_optimizer(
        training.optimizer, task.loaded.device, scaled=scales_gradients(task.loaded)
    )
    engine = choose_engine(task)
    pad: Any = tokenizer.pad_token_id
    measured = Measured(
        _live_figures(task, computed=lambda: trainer.engine.computed_tokens),
        validate_every=training.validate_every,
        validate=None if validate is None else lambda: validate(task.model, pad),
    )
    with adapter_precision(task.model):
        trainer = StepTrainer(
            shares=StepShares(
                task.rows, task.schedule, task.sizes, rank=task.ranks.rank, ranks=task.ranks.count
            ),
            measured=measured,
            make_engine=lambda trainer: _engine(task, trainer, engine),
            sharded=task.ranks.sharded,
            model=task.model,
            args=_arguments(task, optimizer, engine.memory),
            train_dataset=task.rows,
            processing_class=tokenizer,
            callbacks=[measured, _watch(task, measured), SameAdapter(task.model, task.ranks)],
        )
    measured.was_skipped = lambda: trainer.accelerator.optimizer_step_was_skipped
    _only_our_output(trainer)
    # Nothing wraps the model: the trainer itself adds up the gradients of all ranks.
    prepare_model = trainer.accelerator.prepare_model
    trainer.accelerator.prepare_model = partial(prepare_model, evaluation_mode=True)
    return trainer, (*engine.reasons, *((substituted,) if substituted else ()))


def scales_gradients(loaded: LoadedModel) -> bool:
    """Whether gradients are computed of a multiple of the loss, lest float16 lose small ones."""
    import torch

    return loaded.device == "cuda" and loaded.dtype == torch.float16


def _watch(task: TrainingTask, measured: Measured) -> TrainerCallback:
    from runner.training.learns import EveryTensorLearns

    first = first_steps(task.rows, task.schedule, task.token_ids)
    return EveryTensorLearns(
        task.model,
        token_ids=task.token_ids,
        first_steps=first,
        skipped=lambda: len(measured.skipped),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenEngine:
    """How this machine computes a step, and why, as sentences."""

    attention: AttentionChoice
    memory: MemoryChoice
    compilation: Compilation
    reasons: tuple[str, ...]


def choose_engine(task: TrainingTask) -> ChosenEngine:
    """Decide what ``hardware`` leaves open, for this model on this device."""
    from runner.training.layer_compilation import compile_layers

    hardware, device = task.recipe.hardware, task.loaded.device
    longest = max(task.sizes.lengths)
    check_positions(task.loaded.model.config, longest)
    attention = choose_attention(
        hardware.attention, task.loaded.model, longest=longest, device=device
    )
    memory = _choose_memory(task, packed=attention.layout == "packed")
    compilation = compile_layers(
        task.model,
        hardware.compile,
        device=device,
        steps=len(task.schedule.steps),
        tokens_per_step=sum(task.schedule.tokens(task.sizes.lengths))
        / len(task.schedule.steps)
        / task.ranks.count,
        against=_against_compiling(task),
    )
    return ChosenEngine(
        attention=attention,
        memory=memory,
        compilation=compilation,
        reasons=(attention.reason, *memory.reasons, compilation.reason),
    )


def _against_compiling(task: TrainingTask) -> str | None:
    """What was never tried together with compiled layers, so that it is left to the recipe."""
    if task.recipe.hardware.activation_offload:
        return "activations wait in the CPU's memory"
    return "weights are shared out over devices" if task.ranks.sharded else None


def _choose_memory(task: TrainingTask, *, packed: bool) -> MemoryChoice:
    """The same on every rank, since all must make equally many parts of a step."""
    hardware, ranks, device = task.recipe.hardware, task.ranks, task.loaded.device
    longest = max(task.sizes.lengths)
    step_tokens = -(-max(task.schedule.tokens(task.sizes.lengths)) // ranks.count)
    estimate = estimate_memory(
        skeleton_of(task.loaded.model),
        task.recipe,
        TrainedRows(
            longest=longest,
            supervised=sum(task.sizes.supervised) / sum(task.sizes.lengths),
            packed=packed,
        ),
        dtype=task.loaded.dtype,
        device=cast("Device", device),
        tokens=planned_tokens(
            hardware.micro_batch_tokens, device=device, longest=longest, step_tokens=step_tokens
        ),
        shards=ranks.count if ranks.sharded else 1,
    )
    sharing = ranks.count if device == "cpu" else 1  # all ranks take of the same memory
    free = min(ranks.of_all(free_bytes(device))) // sharing
    return choose_memory(
        hardware,
        estimate,
        free_bytes=free - estimate.adapter - estimate.optimizer,
        longest=longest,
        step_tokens=step_tokens,
    )


def _engine(task: TrainingTask, trainer: StepTrainer, chosen: ChosenEngine) -> StepEngine:
    from runner.training.neftune import EmbeddingNoise
    from runner.training.step_engine import Parts, StepEngine

    inner: Any = task.model.get_base_model()
    alpha = task.recipe.training.neftune_alpha
    pad: Any = task.loaded.tokenizer.pad_token_id
    checkpoint_layers(inner, chosen.memory.recomputed)
    if task.loaded.device == "cpu":
        (return_freed_memory if chosen.memory.recomputed else keep_freed_memory)()
    if task.ranks.sharded:
        gather_outside_layers(inner)  # the engine tries decoder and head apart from each other
    parts = Parts(
        layout=chosen.attention.layout,
        kernel=chosen.attention.kernel,
        budget=chosen.memory.budget,
        pad_token_id=pad,
        longest=max(task.sizes.lengths),
        noise=EmbeddingNoise(inner, alpha) if alpha is not None else None,
        backward=trainer.accelerator.backward,
        around=lambda _last: trainer.maybe_activation_offload_context,
        survives_memory=not task.ranks.sharded,
        announce=task.announce,
        compilation=chosen.compilation,
    )
    return StepEngine(task.model, inner, parts)


def _arguments(task: TrainingTask, optimizer: str, memory: MemoryChoice) -> SFTConfig:
    import torch
    from trl.trainer.sft_config import SFTConfig

    training, loaded, steps = task.recipe.training, task.loaded, len(task.schedule.steps)
    every = training.checkpoint_every or training.validate_every or max(steps // 10, 1)
    return SFTConfig(
        output_dir=str(task.folder.checkpoints),
        max_steps=steps,
        # One item of the data is one whole step: see StepShares.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=SCHEDULES[training.schedule],
        warmup_steps=training.warmup_ratio,
        optim=optimizer,
        weight_decay=training.weight_decay,
        # transformers reads 0 as "do not clip".
        max_grad_norm=training.max_grad_norm or 0.0,
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,
        save_steps=every,
        save_total_limit=KEPT,
        activation_checkpointing=False,  # `checkpoint_layers`, in as few as it takes
        activation_offloading=memory.offload,
        seed=task.recipe.seed,
        data_seed=task.recipe.seed,
        use_cpu=loaded.device == "cpu",
        bf16=loaded.device == "cuda" and loaded.dtype == torch.bfloat16,
        fp16=scales_gradients(loaded),
        report_to=[],
        disable_tqdm=True,
        eval_strategy="no",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=True,
    )


def _live_figures(task: TrainingTask, *, computed: Callable[[], int]) -> LiveFigures:
    from runner.training.live_figures import LiveFigures, step_work
    from runner.training.model_operations import count_operations
    from runner.training.peak_speed import device_peak

    ranks, dtype = task.ranks, str(task.loaded.dtype).removeprefix("torch.")
    peak = device_peak(task.loaded.device, dtype)
    operations = count_operations(task.model)
    steps = task.schedule.steps
    return LiveFigures(
        step_work(steps, task.sizes, operations, rank=ranks.rank, ranks=ranks.count),
        computed=computed,
        memory=partial(peak_memory, task.loaded.device),
        peak=None if peak is None else peak * ranks.count,
    )


def _only_our_output(trainer: StepTrainer) -> None:
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
