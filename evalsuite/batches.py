"""Batches of examples of similar length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from evalsuite.errors import EvaluationError

Result = TypeVar("Result")


def length_sorted_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices grouped longest first, so that rows times longest row stays within ``budget``.

    Longest first shows at once whether the largest batch fits into memory. A row longer than the
    budget is a batch of its own.

    Raises:
        EvaluationError: ``budget`` is not positive.
    """
    if budget < 1:
        raise EvaluationError(f"batch_tokens is {budget}; it must be at least 1.")
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    while order:
        rows = max(1, budget // max(1, lengths[order[0]]))
        batches.append(order[:rows])
        order = order[rows:]
    return batches


def halve_on_out_of_memory(
    batch: Sequence[int], work: Callable[[Sequence[int]], list[Result]]
) -> list[Result]:
    """``work(batch)``; where the GPU's memory does not suffice, its halves one after the other.

    Raises:
        torch.OutOfMemoryError: Not even one row fits.
    """
    import torch

    try:
        return work(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Outside the except block: there the traceback would keep the failed batch's tensors alive.
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    first = halve_on_out_of_memory(batch[:middle], work)
    return first + halve_on_out_of_memory(batch[middle:], work)
