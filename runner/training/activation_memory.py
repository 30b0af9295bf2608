"""What is kept for the backward pass: which layers are computed again, and where the rest waits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def layers_of(model: nn.Module) -> list[Any]:
    """The layers of ``model`` whose activations can be computed again, from first to last."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]


def checkpoint_layers(model: nn.Module, count: int) -> None:
    """Compute the activations of the first ``count`` layers again in the backward pass.

    The first, because by the time they are computed again the others' activations are gone. A
    layer that is computed again draws the same dropout.

    Raises:
        UsageError: the model has fewer layers that can be.
    """
    from torch.utils.checkpoint import checkpoint

    layers = layers_of(model)
    if count > len(layers):
        raise UsageError(
            f"hardware.activation_checkpointing: {type(model).__name__} has {len(layers)} layers "
            f"that can be computed again, not {count}. Write `false`."
        )
    for place, layer in enumerate(layers):
        layer.gradient_checkpointing = place < count
        if place < count:
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)


def choose_offload(wanted: bool, device: str) -> tuple[bool, str | None]:
    """Whether activations are moved to the CPU's memory, and a sentence where they are not."""
    if wanted and device == "cpu":
        return False, "hardware.activation_offload: nothing to move, the CPU computes"
    return wanted, None
