"""A base model without its large weights, which still runs: to see what its layers are told."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _Zeros(torch.nn.Module):
    """Stands for a linear layer or an embedding: zeros (..., width)."""

    def __init__(self, width: int, dtype: torch.dtype, *, embeds: bool) -> None:
        super().__init__()
        self.width = width
        self.embeds = embeds
        self.dtype = dtype

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        shape = given.shape if self.embeds else given.shape[:-1]
        return torch.zeros(*shape, self.width, dtype=self.dtype, device=given.device)


def hollowed(skeleton: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy of ``skeleton`` on the CPU, in ``dtype``, in which linear layers give zeros.

    What happens between them, attention and masks, happens as in the whole model.
    """
    model = copy.deepcopy(skeleton)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear):
            model.set_submodule(name, _Zeros(module.out_features, dtype, embeds=False))
        elif isinstance(module, torch.nn.Embedding):
            model.set_submodule(name, _Zeros(module.embedding_dim, dtype, embeds=True))
    for module in model.modules():
        for tensors in cast("list[dict[str, Any]]", [module._parameters, module._buffers]):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = _ones(tensor, dtype)
    return model


def _ones(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Ones of the tensor's shape that take the memory of a single one."""
    kept = dtype if tensor.is_floating_point() else tensor.dtype
    ones = torch.ones((), dtype=kept).expand(tensor.shape)
    parameter = isinstance(tensor, torch.nn.Parameter)
    return torch.nn.Parameter(ones, requires_grad=False) if parameter else ones
