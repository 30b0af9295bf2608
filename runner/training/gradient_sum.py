"""Gradients of all ranks added up, once in an optimizer step."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def sum_over_ranks(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each parameter's gradient by the sum over all ranks; nothing alone in a process.

    One exchange for each dtype. A parameter without a gradient here counts as zero, so that every
    rank takes part with the same values.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    by_dtype: dict[torch.dtype, list[torch.nn.Parameter]] = {}
    for parameter in parameters:
        by_dtype.setdefault(parameter.dtype, []).append(parameter)
    for group in by_dtype.values():
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in group]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for parameter, summed in zip(group, flat.split([p.numel() for p in group]), strict=True):
            parameter.grad = summed.view_as(parameter).clone()
