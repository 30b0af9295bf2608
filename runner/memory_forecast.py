"""The memory that training a plan will take, and what to lower where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from runner.base_model.loaded_model import choose_dtype
from runner.base_model.quantization.stored_bytes import stored_bytes
from runner.data.preparation import partition_dataset
from runner.training.attention_choice import choose_attention
from runner.training.device_memory import free_bytes, memory_in_use
from runner.training.memory_choice import MemoryChoice, choose_memory
from runner.training.memory_estimate import MemoryEstimate, TrainedRows, estimate_memory
from runner.training.step_schedule import count_steps, make_schedule
from runner.training.token_budget import planned_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from runner.data.preparation import PreparedData
    from runner.plan import Plan
    from runner.recipe import Recipe
    from runner.training.computing_memory import Device

# On a CPU in 16 bits, the further shapes of a validation's batches; see CPU_HALF_BYTES.
VALIDATED_HALF_BYTES = 190_000_000
# evalsuite.loss turns so many positions' logits to float32 at once.
POSITIONS_IN_FLOAT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryForecast:
    """Bytes that training takes at its peak, and what they are made of; estimates.

    ``free`` is what the training may take in all. ``tokens`` are computed at once,
    ``recomputed_layers`` make their activations twice. ``validating`` is what the logits of
    a validation take, at another time than ``computing``. ``advice`` is empty where it fits.
    ``rough``: the model could not be traced.
    """

    peak: int
    free: int
    program: int
    weights: int
    adapter: int
    optimizer: int
    computing: int
    validating: int
    tokens: int
    recomputed_layers: int
    rough: bool
    advice: tuple[str, ...]


def forecast_memory(plan: Plan, skeleton: PreTrainedModel, data: PreparedData) -> MemoryForecast:
    """Forecast the memory of training ``plan`` on one device.

    Args:
        plan: The plan.
        skeleton: Its base model on the meta device.
        data: Its prepared data.
    """
    hardware, device = plan.recipe.hardware, cast("Device", plan.device)
    dtype = choose_dtype(plan.recipe.model, plan.model, device)
    rows, step_tokens = _rows(plan, skeleton, data)
    estimate = estimate_memory(
        skeleton,
        plan.recipe,
        rows,
        dtype=dtype,
        device=device,
        tokens=planned_tokens(
            hardware.micro_batch_tokens,
            device=device,
            longest=rows.longest,
            step_tokens=step_tokens,
        ),
        weight_bytes=stored_bytes(plan.recipe.quantization, plan.model, skeleton, dtype),
    )
    if device == "cpu" and dtype.itemsize == 2 and _validates(plan):  # noqa: PLR2004 - 16 bits
        estimate = replace(estimate, program=estimate.program + VALIDATED_HALF_BYTES)
    free = free_bytes(device) + (memory_in_use() if device == "cpu" else 0)
    choice = choose_memory(
        hardware,
        estimate,
        free_bytes=free - estimate.standing,
        longest=rows.longest,
        step_tokens=step_tokens,
    )
    tokens = max(min(choice.budget.tokens, step_tokens), rows.longest)
    return _forecast(
        plan.recipe,
        choice,
        free=free,
        longest=rows.longest,
        tokens=tokens,
        validating=_validating(plan, rows.supervised),
    )


def _rows(plan: Plan, skeleton: PreTrainedModel, data: PreparedData) -> tuple[TrainedRows, int]:
    """What is trained on, and the tokens of the largest optimizer step."""
    from runner.base_model.hollow_model import hollowed
    from runner.training.training_rows import row_sizes

    recipe = plan.recipe
    sizes = row_sizes(partition_dataset(data, "train"))
    schedule = make_schedule(
        sizes.lengths,
        steps=count_steps(recipe.training, len(sizes.lengths)),
        batch_size=recipe.training.batch_size,
        seed=recipe.seed,
    )
    longest = max(sizes.lengths)
    dtype = choose_dtype(recipe.model, plan.model, plan.device)
    layout = choose_attention(
        recipe.hardware.attention,
        hollowed(skeleton, dtype),
        longest=longest,
        device=plan.device,
    ).layout
    rows = TrainedRows(
        longest=longest,
        supervised=sum(sizes.supervised) / sum(sizes.lengths),
        packed=layout == "packed",
    )
    return rows, max(schedule.tokens(sizes.lengths))


def _validates(plan: Plan) -> bool:
    return plan.recipe.training.validate_every is not None


def _validating(plan: Plan, supervised: float) -> int:
    """Bytes of a batch's logits while the validation loss is measured; see `evalsuite.loss`."""
    from runner.stages import evaluation_batch_tokens

    if not _validates(plan):
        return 0
    width = choose_dtype(plan.recipe.model, plan.model, plan.device).itemsize
    positions = round(evaluation_batch_tokens(plan.recipe, plan.device) * supervised)
    in_float = 4 if width == 4 else 8  # noqa: PLR2004 - log-likelihoods, and logits where narrower
    at_once = min(positions, POSITIONS_IN_FLOAT)
    return plan.model.vocabulary * (positions * width + at_once * in_float)


def _forecast(
    recipe: Recipe,
    choice: MemoryChoice,
    *,
    free: int,
    longest: int,
    tokens: int,
    validating: int,
) -> MemoryForecast:
    estimate = choice.estimate
    peak = max(estimate.peak_bytes(tokens), estimate.standing + validating)
    return MemoryForecast(
        peak=peak,
        free=free,
        program=estimate.program,
        weights=estimate.weights,
        adapter=estimate.adapter,
        optimizer=estimate.optimizer,
        computing=estimate.computing_bytes(tokens),
        validating=validating,
        tokens=tokens,
        recomputed_layers=choice.recomputed,
        rough=estimate.rough,
        advice=_advice(recipe, choice, longest, tokens) if peak > free else (),
    )


def _advice(recipe: Recipe, choice: MemoryChoice, longest: int, tokens: int) -> tuple[str, ...]:
    """What to lower, the largest saving first."""
    estimate: MemoryEstimate = choice.estimate
    found: list[tuple[int, str]] = []
    if tokens > longest:
        saved = estimate.computing_bytes(tokens) - estimate.computing_bytes(longest)
        found.append((saved, f"hardware.micro_batch_tokens to {longest:,}"))
    if not estimate.recomputed and estimate.layers:
        least = estimate.recomputing(estimate.layers).computing_bytes(tokens)
        found.append(
            (estimate.computing_bytes(tokens) - least, "set hardware.activation_checkpointing")
        )
    half = estimate.computing_bytes(longest) - estimate.computing_bytes(longest // 2)
    found.append((half, f"template.max_length to {longest // 2:,} (the longest example decides)"))
    if recipe.quantization.method == "none":
        found.append((estimate.weights // 2, "the size of the base model, or use quantization"))
    found.append(((estimate.adapter + estimate.optimizer) // 2, f"lora.r to {recipe.lora.r // 2}"))
    ordered = sorted(found, key=lambda pair: -pair[0])
    return tuple(f"{what}: {saved / 1e9:.1f} GB less" for saved, what in ordered if saved > 0)
