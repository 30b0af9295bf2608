"""The memory of a training on one device, before anything is loaded: traced, not guessed."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from runner.recipe import Recipe
from runner.training.optimizers import optimizer_bytes

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from runner.training.computing_memory import Batch, Device

# Python with all libraries of a training, before any model; on a GPU it is not the device's.
PROCESS_BYTES = 670_000_000
# What oneDNN adds for products in 16 bits: a kernel and scratch space for each shape.
CPU_HALF_BYTES = 170_000_000
# Scratch space of the matrix products (cuBLAS, Hopper: 32 MiB a handle and more).
CUDA_WORKSPACE_BYTES = 70_000_000
# Measured (docs/decisions/0017): what glibc's heap holds on to, in units of what is in use; it is
# little where activations are recomputed, since their memory is then returned (`heap.py`).
HEAP = 1.68
RETURNING_HEAP = 1.05
# Where a model cannot be traced: what a layer keeps for a token, in units of its width
# (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1: 34 bytes at 2 bytes a value).
ACTIVATION_VALUES = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedLine:
    """Bytes by tokens, between and beyond two traced points (tokens, bytes)."""

    first: tuple[int, int]
    second: tuple[int, int]

    def at(self, tokens: int) -> int:
        """Bytes that so many tokens take."""
        (low, low_bytes), (high, high_bytes) = self.first, self.second
        return low_bytes + (high_bytes - low_bytes) * (tokens - low) // (high - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes on one device.

    ``program``, ``weights``, ``adapter`` (values and gradients) and ``optimizer`` are there all
    the time. What computing takes depends on the tokens at once and on how many of the ``layers``
    are ``recomputed`` in the backward pass: ``kept`` is for none of them, ``all_recomputed`` for
    all. ``rough``: the model could not be traced, and both come from a formula.
    """

    device: Device
    program: int
    weights: int
    adapter: int
    optimizer: int
    layers: int
    kept: TracedLine
    all_recomputed: TracedLine
    recomputed: int = 0
    rough: bool = False

    @property
    def standing(self) -> int:
        """What is there all the time."""
        return self.program + self.weights + self.adapter + self.optimizer

    def computing_bytes(self, tokens: int) -> int:
        """What computing so many tokens at once takes beside, at its peak."""
        share = self.recomputed / self.layers if self.layers else 0.0
        kept, least = self.kept.at(tokens), self.all_recomputed.at(tokens)
        return int((kept + (least - kept) * share) * self._heap)

    def peak_bytes(self, tokens: int) -> int:
        """All of it at its peak."""
        return self.standing + self.computing_bytes(tokens)

    def recomputing(self, count: int) -> MemoryEstimate:
        """The same with ``count`` layers recomputed."""
        return replace(self, recomputed=count)

    @property
    def _heap(self) -> float:
        if self.device == "cuda":
            return 1.0
        return RETURNING_HEAP if self.recomputed else HEAP


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRows:
    """The rows that are computed: the longest's tokens, and the share that is learned from."""

    longest: int
    supervised: float
    packed: bool


def estimate_memory(
    skeleton: PreTrainedModel,
    recipe: Recipe,
    rows: TrainedRows,
    *,
    dtype: torch.dtype,
    device: Device,
    tokens: int,
    weight_bytes: int | None = None,
    shards: int = 1,
) -> MemoryEstimate:
    """What training an adapter by ``recipe`` takes.

    Args:
        skeleton: The base model on the meta device, without adapter; it is left as it is.
        recipe: Its ``lora``, ``training`` and ``seed`` are read.
        rows: What is trained on.
        dtype: Of the base model.
        device: Where it is trained.
        tokens: About so many tokens will be computed at once.
        weight_bytes: Of the base model, where its parameters do not tell: it is quantized.
        shards: Over how many devices the base model's weights are divided.
    """
    from runner.training.activation_memory import layers_of
    from runner.training.computing_memory import UntraceableError

    model = adapted_skeleton(skeleton, recipe, dtype=dtype, device=device)
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    values = sum(p.numel() for p in trained)
    layers, rough = len(layers_of(model)), False
    try:
        kept, least = (
            _traced_line(model, rows, recomputed, device=device, tokens=tokens)
            for recomputed in (0, layers)
        )
    except UntraceableError:
        (kept, least), rough = _rough_lines(model, dtype), True
    return MemoryEstimate(
        device=device,
        program=_program_bytes(device, dtype),
        weights=(frozen if weight_bytes is None else weight_bytes) // shards,
        adapter=2 * 4 * values,  # whole on every device, and so are its moments
        optimizer=optimizer_bytes(recipe.training.optimizer, (p.shape for p in trained)),
        layers=layers,
        kept=kept,
        all_recomputed=least,
        rough=rough,
    )


def _program_bytes(device: Device, dtype: torch.dtype) -> int:
    if device == "cuda":
        return CUDA_WORKSPACE_BYTES
    return PROCESS_BYTES + (CPU_HALF_BYTES if dtype.itemsize < 4 else 0)  # noqa: PLR2004 - bytes of float32


def skeleton_of(model: PreTrainedModel) -> PreTrainedModel:
    """The modules of a loaded model, without an adapter, on the meta device."""
    import torch

    config = copy.deepcopy(model.config)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config  # plain modules stand for the quantized ones
    with torch.device("meta"):
        return type(model)(config)


def adapted_skeleton(
    skeleton: PreTrainedModel, recipe: Recipe, *, dtype: torch.dtype, device: Device
) -> PeftModel:
    """A copy of ``skeleton`` with the recipe's adapter, in the types that training computes in."""
    import torch

    from runner.training.computing_memory import compute_as_autocast
    from runner.training.lora import attach_adapter

    block = recipe.lora
    if block.variant == "pissa":  # its start needs weights; its tensors are those of LoRA
        block = block.model_copy(update={"variant": "lora"})
    plain = cast("Any", copy.deepcopy(skeleton)).to(dtype)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        ids = range(len(block.trained_tokens))
        model = attach_adapter(plain, block, seed=recipe.seed, token_ids=ids)
    if device == "cuda" and dtype != torch.float32:
        compute_as_autocast(model, dtype)
    return model


def _traced_line(
    model: PeftModel, rows: TrainedRows, recomputed: int, *, device: Device, tokens: int
) -> TracedLine:
    """What tokens take while the first ``recomputed`` layers are computed twice."""
    from runner.training.activation_memory import checkpoint_layers
    from runner.training.computing_memory import traced_bytes

    checkpoint_layers(model, recomputed)
    first, second = (
        (size, traced_bytes(model, _batch(rows, size), device=device))
        for size in (rows.longest, max(tokens, 2 * rows.longest))
    )
    return TracedLine(first=first, second=second)


def _rough_lines(model: PeftModel, dtype: torch.dtype) -> tuple[TracedLine, TracedLine]:
    """By the width of the layers alone: `ACTIVATION_VALUES` each, or only their input."""
    config = cast("Any", model.get_base_model()).config.get_text_config()
    layer = config.hidden_size * dtype.itemsize
    kept = config.num_hidden_layers * layer * ACTIVATION_VALUES
    least = config.num_hidden_layers * layer + layer * ACTIVATION_VALUES
    return (
        TracedLine(first=(0, 0), second=(1, kept)),
        TracedLine(first=(0, 0), second=(1, least)),
    )


def _batch(rows: TrainedRows, tokens: int) -> Batch:
    """So many tokens as they are computed at once; padded, all rows are as long as the longest."""
    from runner.training.computing_memory import Batch

    count = 1 if rows.packed else max(tokens // rows.longest, 1)
    return Batch(
        rows=count,
        width=tokens // count,
        supervised=max(round(tokens * rows.supervised), 1),
        packed=rows.packed,
    )
