"""How the examples of a part are laid out for the attention, and which kernel computes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evalsuite.packed_attention import (
    Kernel,
    KernelChoice,
    LayerAttention,
    UnpackableError,
    choose_kernel,
    look_at_attention,
)
from runner.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionChoice:
    """The layout, the kernel that computes it where it is packed, and why, as a sentence."""

    layout: Literal["packed", "padded"]
    kernel: Kernel
    reason: str


def choose_attention(
    wanted: str, model: PreTrainedModel, *, longest: int, device: str
) -> AttentionChoice:
    """Packed wherever the model allows it and it is not slower, unless the recipe says otherwise.

    On a CPU packed is the faster in every case that was measured (docs/decisions/0019). On a GPU it
    is where a kernel takes whole rows of examples; elsewhere each example is a few launches.

    Args:
        wanted: ``hardware.attention`` of the recipe.
        model: The base model, or what wraps it.
        longest: Tokens of the longest example.
        device: "cpu" or "cuda".

    Raises:
        UsageError: ``packed`` is asked for and cannot be; it names what stands against it.
    """
    if wanted == "padded":
        return _padded("as the recipe says")
    try:
        with _training(model):
            layers = look_at_attention(model, longest)
    except UnpackableError as against:
        if wanted == "packed":
            raise UsageError(
                f"hardware.attention: examples cannot be packed for this base model: {against}. "
                "Write padded, or auto."
            ) from against
        return _padded(str(against))
    chosen = _kernel(layers, longest, device)
    if wanted == "auto" and device == "cuda" and chosen.kernel == "by_example":
        return _padded(f"packed would be {chosen.reason}")
    return AttentionChoice(
        layout="packed", kernel=chosen.kernel, reason=f"attention: packed, {chosen.reason}"
    )


def _kernel(layers: tuple[LayerAttention, ...], longest: int, device: str) -> KernelChoice:
    """Where every run must give the same bytes, nothing is measured: a measurement differs."""
    import torch

    measure = not torch.are_deterministic_algorithms_enabled()
    return choose_kernel(layers, longest=longest, device=torch.device(device), measure=measure)


def _padded(reason: str) -> AttentionChoice:
    return AttentionChoice(layout="padded", kernel="auto", reason=f"attention: padded, {reason}")


@contextmanager
def _training(model: PreTrainedModel) -> Iterator[None]:
    """The mode in which it will be trained: dropout in the attention shows only then."""
    evaluating = [module for module in model.modules() if not module.training]
    model.train()
    try:
        yield
    finally:
        for module in evaluating:
            module.training = False
