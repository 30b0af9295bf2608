from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.batches import answered_batches, halve_on_out_of_memory, length_sorted_batches
from evalsuite.errors import EvaluationError


@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 2000))
def test_every_index_once_and_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = length_sorted_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        width = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * width <= budget


def test_longest_first() -> None:
    assert length_sorted_batches([3, 9, 5, 9], 18) == [[1, 3], [2, 0]]


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(EvaluationError, match="batch_tokens is 0"):
        length_sorted_batches([1], 0)


def test_out_of_memory_halves_the_batch() -> None:
    import torch

    tried: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return [10 * index for index in batch]

    assert halve_on_out_of_memory([4, 1, 3, 2, 5], work) == [40, 10, 30, 20, 50]
    assert tried == [5, 2, 3, 1, 2]


def test_one_row_that_does_not_fit_is_an_error() -> None:
    import torch

    def work(batch: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        halve_on_out_of_memory([1, 2], work)


def answered(
    lengths: Sequence[int], budget: int, fits: int, done: Sequence[int] = ()
) -> tuple[list[list[int]], list[int]]:
    """The batches that came, and the size of each that was tried; ``fits`` rows fit at once."""
    import torch

    tried: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError
        return [10 * index for index in batch]

    made = list(answered_batches(lengths, budget, work, done=frozenset(done)))
    assert all(results == [10 * index for index in batch] for batch, results in made)
    return [batch for batch, _ in made], tried


def test_batches_come_one_by_one_and_those_that_are_done_are_left_out() -> None:
    lengths = [9, 8, 7, 6, 5, 4]
    assert answered(lengths, 18, 9) == ([[0, 1], [2, 3], [4, 5]], [2, 2, 2])
    # A batch that is done in part is made again as a whole, in the same company.
    assert answered(lengths, 18, 9, done=[0, 1, 4]) == ([[2, 3], [4, 5]], [2, 2])
    assert answered(lengths, 18, 9, done=range(6)) == ([], [])


def test_a_batch_size_that_does_not_fit_is_not_tried_again() -> None:
    batches, tried = answered([5] * 40, 100, 6)
    assert sorted(index for batch in batches for index in batch) == list(range(40))
    assert tried == [20, 10, *[5] * 8], "it was halved twice, and then for good"
    assert answered([5] * 40, 100, 6, done=range(20))[1] == [20, 10, *[5] * 4]


def test_one_row_that_does_not_fit_is_an_error_here_too() -> None:
    import torch

    with pytest.raises(torch.OutOfMemoryError):
        answered([5, 5], 100, 0)
