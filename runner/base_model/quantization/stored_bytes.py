"""How much memory a base model's weights take, once they are quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.base_model.model_source import ModelSource
from runner.recipe import Quantization

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# bitsandbytes: a scale of 8 bits for 64 weights, and a float32 for 256 of those.
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)


def stored_bytes(
    block: Quantization, source: ModelSource, skeleton: PreTrainedModel, dtype: torch.dtype
) -> int | None:
    """Bytes of the weights as ``block`` has them stored; None where they are not quantized.

    Args:
        block: The recipe's.
        source: The base model; of a checkpoint that is quantized already the files tell.
        skeleton: Its plain modules, on the meta device.
        dtype: Of what is not quantized: embeddings, head and norms.
    """
    if block.method == "none":
        return None
    if source.quantization is not None:
        return source.weight_bytes
    rounded = sum(weight.numel() for weight in _rounded(skeleton))
    others = sum(weight.numel() for weight in skeleton.parameters()) - rounded
    return round(rounded * bits_per_weight(block) / 8) + others * dtype.itemsize


def bits_per_weight(block: Quantization) -> float:
    """Bits of a weight with its share of scales and zero points."""
    bits = block.bits or 0
    if block.method == "gptq":
        shared = (16 + bits) / block.group_size if block.group_size > 0 else 0.0
        return bits + shared
    return NF4_BITS if (block.method, bits) == ("bitsandbytes", 4) else float(bits)


def _rounded(skeleton: Any) -> list[torch.Tensor]:  # noqa: ANN401 - any model of transformers
    """The matrices of all linear modules but the head."""
    import torch

    head = skeleton.get_output_embeddings()
    linear = (m for m in skeleton.modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return [module.weight for module in linear]
