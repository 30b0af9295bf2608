"""An adapter merged into its base's weights while answers are generated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def why_not_merged(model: PreTrainedModel) -> str | None:
    """Why the adapter of ``model`` is not merged for decoding; None where it is.

    Plain weights of any floating-point kind are merged: what merging rounds away in half precision
    is a tenth of what computing in half precision does (docs/decisions/0011).
    """
    layers = _adapter_layers(model)
    if not layers:
        return "there is no adapter"
    if not all(_is_lora(layer) or _is_token_rows(layer) for layer in layers):
        return "the adapter is no LoRA"
    if any(layer.disable_adapters or layer.merged for layer in layers):
        return "the adapter is switched off or merged already"
    # Trained tokens replace rows of their weight: of an embedding that is the head too, in both.
    weights = [_weight(layer) for layer in layers if _is_lora(layer)]
    if any(weight is None for weight in weights):
        return "the base model's weights are quantized"
    own = (module.parameters(recurse=False) for module in model.modules())
    holders = Counter(id(weight) for held in own for weight in held)
    if any(holders[id(weight)] > 1 for weight in weights):
        return "a weight with an adapter is tied to another module's"
    return None


@contextmanager
def merged_adapter(model: PreTrainedModel) -> Iterator[str | None]:
    """Merge the adapter for a block where it can be; says why it is not merged.

    Afterwards every weight has the very bits that it had: peft's own unmerging subtracts, which
    rounds, so the touched weights are kept beside, on the GPU where they take a quarter of it at
    most, else in the machine's memory.
    """
    reason = why_not_merged(model)
    if reason is not None:
        yield reason
        return
    import torch

    tuner: Any = model
    touched = _touched(model)
    with torch.no_grad():
        kept = _copies(touched)
        tuner.merge_adapter()
    try:
        yield None
    finally:
        with torch.no_grad():
            tuner.unmerge_adapter()
            for parameter, value in zip(touched, kept, strict=True):
                parameter.data.copy_(value)


def copied_bytes_on_gpu(model: PreTrainedModel) -> int:
    """GPU memory in bytes that copies of the touched weights take while an adapter is merged."""
    if why_not_merged(model) is not None:
        return 0
    touched = _touched(model)
    return _bytes(touched) if _fit_beside(touched) else 0


def _touched(model: PreTrainedModel) -> list[torch.Tensor]:
    """The base model's parameters, biases too, that merging may change."""
    layers = (layer.get_base_layer() for layer in _adapter_layers(model))
    held = [weight for layer in layers for weight in layer.parameters(recurse=False)]
    return list({id(weight): weight for weight in held}.values())


def _copies(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    if _fit_beside(weights) or weights[0].device.type == "cpu":
        return [weight.detach().clone() for weight in weights]
    return [weight.detach().cpu() for weight in weights]


def _fit_beside(weights: list[torch.Tensor]) -> bool:
    """Whether copies of ``weights`` take a quarter of the GPU's memory at most."""
    if weights[0].device.type != "cuda":
        return False
    import torch

    total = torch.cuda.get_device_properties(weights[0].device).total_memory
    return 4 * _bytes(weights) <= total


def _bytes(weights: list[torch.Tensor]) -> int:
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _adapter_layers(model: PreTrainedModel) -> list[Any]:
    if not hasattr(model, "merge_adapter"):
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _is_lora(layer: Any) -> bool:  # noqa: ANN401 - any layer class of peft
    from peft.tuners.lora import LoraLayer

    return isinstance(layer, LoraLayer)


def _is_token_rows(layer: Any) -> bool:  # noqa: ANN401 - any layer class of peft
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    return isinstance(layer, TrainableTokensLayer)


def _weight(layer: Any) -> torch.Tensor | None:  # noqa: ANN401 - any layer class of peft
    """The plain floating-point weight that the adapter of ``layer`` is added to, if it is that."""
    import torch
    from transformers.pytorch_utils import Conv1D

    base = layer.get_base_layer()
    if type(base) not in (torch.nn.Linear, torch.nn.Embedding, Conv1D):
        return None
    weight: torch.Tensor = base.weight
    return weight if weight.is_floating_point() else None
