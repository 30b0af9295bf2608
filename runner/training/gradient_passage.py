"""Whether gradients pass through the base model's quantized layers, tried before any training.

A layer whose weights were packed for inference gives no gradient to what lies before it, without an
error. An adapter on every linear module hides that: gradients then take the way through the other
adapters alone, so that every tensor has one, and it is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from runner.errors import MachineError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

_TELL = 3  # names that a message lists


def check_passage(model: PeftModel) -> None:
    """Refuse a model with an adapter on a layer that gives its input no gradient.

    Raises:
        MachineError: it names the layers and their kernel.
    """
    dtype = cast("torch.dtype", model.get_base_model().dtype)
    shut = [(name, layer) for name, layer in _quantized_layers(model) if not _passes(layer, dtype)]
    if shut:
        names = ", ".join(name for name, _ in shut[:_TELL])
        kernels = ", ".join(sorted({type(layer).__name__ for _, layer in shut}))
        raise MachineError(
            f"{len(shut)} quantized layers, such as {names}, pass no gradient on: {kernels} is for "
            "inference only, or has packed its weights for it at an earlier evaluation. What is "
            "trained before them would learn nothing, or the wrong thing. Write "
            "quantization.kernel: torch."
        )


def _quantized_layers(model: PeftModel) -> Iterator[tuple[str, Any]]:
    """Layers with a low-rank adapter whose weights are no plain matrix."""
    import torch
    from peft.tuners.lora import LoraLayer
    from transformers.pytorch_utils import Conv1D

    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            layer = module.get_base_layer()
            if type(layer) not in (torch.nn.Linear, torch.nn.Embedding, Conv1D):
                yield name, layer


def _passes(layer: Any, dtype: torch.dtype) -> bool:  # noqa: ANN401 - any quantized layer
    import torch

    device = next(iter((*layer.buffers(), *layer.parameters()))).device
    given = torch.ones(1, layer.in_features, device=device, dtype=dtype, requires_grad=True)
    with torch.enable_grad():
        out: torch.Tensor = layer(given)
    if not out.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(out.float().sum(), given)
    return bool(gradient.any())
