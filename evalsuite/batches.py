"""Batches of examples of similar length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def answered_batches(
    lengths: Sequence[int],
    budget: int,
    work: Callable[[Sequence[int]], list[Result]],
    *,
    done: frozenset[int] = frozenset(),
) -> Iterator[tuple[list[int], list[Result]]]:
    """Length-sorted batches with ``work``'s results, each as soon as it is there.

    Where the GPU's memory does not suffice for a batch, it and all later ones are made half as
    large. Batches are planned over all rows and only those left out whose rows are all ``done``:
    whatever was done before, the others are computed in the same company and so to the same bits.

    Raises:
        EvaluationError: ``budget`` is not positive.
        torch.OutOfMemoryError: Not even one row fits.
    """
    pending = length_sorted_batches(lengths, budget)
    while pending:
        batch = pending.pop(0)
        if done.issuperset(batch):
            continue
        results = _unless_out_of_memory(batch, work)
        if results is not None:
            yield batch, results
            continue
        rest = [*batch, *(index for later in pending for index in later)]
        half = len(batch) // 2 * max(1, lengths[batch[0]])
        again = length_sorted_batches([lengths[index] for index in rest], half)
        pending = [[rest[place] for place in places] for places in again]


def _unless_out_of_memory(
    batch: Sequence[int], work: Callable[[Sequence[int]], list[Result]]
) -> list[Result] | None:
    """``work(batch)``, or None where memory does not suffice and the batch can be divided."""
    import torch

    try:
        return work(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Outside the except block: there the traceback would keep the failed batch's tensors alive.
    torch.cuda.empty_cache()
    return None


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
