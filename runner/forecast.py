"""Estimates before a run: steps, tokens, memory, time; and which stages are done already."""

from __future__ import annotations

import time
from dataclasses import dataclass

from runner.base_model.loaded_model import model_skeleton
from runner.data.preparation import PreparedData
from runner.memory_forecast import MemoryForecast, forecast_memory
from runner.plan import Plan
from runner.training.lora import count_adapter_parameters
from runner.training.lora_targets import find_targets
from runner.training.step_schedule import count_steps

# Floating-point operations per parameter and token: 2 for a forward pass; with LoRA the backward
# pass computes activation gradients only, another 2.
FORWARD = 2
TRAINING = 4
# Share of a device's matrix peak that such runs were seen to reach (benchmarks/README.md).
REACHED = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run will take. Seconds and bytes are estimates; counts are exact.

    The few examples that are evaluated twice (``evaluation.instrument_check``) are not counted.

    ``gates`` says of each gate what it can show with the examples there are, and ``hopeless_gates``
    of which there are too few.
    """

    steps: int
    epochs: float
    train_tokens: int
    evaluated_tokens: int
    generated_tokens_at_most: int
    adapter_parameters: int
    memory: MemoryForecast
    seconds: float
    finished_stages: tuple[str, ...]
    gates: tuple[str, ...]
    hopeless_gates: tuple[str, ...]


def forecast_run(
    plan: Plan,
    data: PreparedData,
    *,
    finished_stages: tuple[str, ...],
    gates: tuple[str, ...],
    hopeless_gates: tuple[str, ...],
) -> Forecast:
    """Forecast ``plan`` on its prepared data.

    Raises:
        UsageError: the block ``lora`` does not fit this model.
    """
    recipe = plan.recipe
    skeleton = model_skeleton(recipe, plan.model)
    find_targets(skeleton, recipe.lora, quantized=plan.recipe.quantization.method != "none")
    adapter = count_adapter_parameters(skeleton, recipe.lora)
    train = data.partitions["train"]
    steps = count_steps(recipe.training, train.rows)
    examples = steps * recipe.training.batch_size
    tokens = round(examples * train.tokens / train.rows)
    evaluated, generated = _evaluation_tokens(plan, data)
    work = TRAINING * tokens + FORWARD * (evaluated + generated)
    operations = plan.model.parameters * work
    return Forecast(
        steps=steps,
        epochs=examples / train.rows,
        train_tokens=tokens,
        evaluated_tokens=evaluated,
        generated_tokens_at_most=generated,
        adapter_parameters=adapter,
        memory=forecast_memory(plan, skeleton, data),
        seconds=operations / (REACHED * matrix_operations_per_second(plan.device)),
        finished_stages=finished_stages,
        gates=gates,
        hopeless_gates=hopeless_gates,
    )


def _evaluation_tokens(plan: Plan, data: PreparedData) -> tuple[int, int]:
    evaluation = plan.recipe.evaluation
    subjects = 2 if evaluation.base else 1
    sets = (extra.name for extra in evaluation.held_out)
    scored = sum(data.part(name).tokens for name in (*evaluation.loss, *sets))
    generated = 0
    for task in evaluation.generation:
        rows = data.partitions[task.data].rows
        answers = min(rows, task.limit or rows)
        generated += answers * task.answers * task.decoding.max_new_tokens
    for found in plan.benchmarks:
        part = data.part(found.name)
        if found.block.kind == "generation":
            generated += part.rows * found.block.answers * found.block.decoding.max_new_tokens
        else:
            scored += part.tokens
    return subjects * scored, subjects * generated


def matrix_operations_per_second(device: str) -> float:
    """Floating-point operations a second of one large matrix product, measured now."""
    import torch

    size = 8192 if device == "cuda" else 1024
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    torch.mm(a, a)
    repeats = 5
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, a)
    if device == "cuda":
        torch.cuda.synchronize()
    return repeats * 2 * size**3 / (time.perf_counter() - started)
