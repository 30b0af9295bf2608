"""Sizes of rows, and each rank's share of a step."""

from __future__ import annotations

import pytest
from datasets import Dataset

from runner.training.step_schedule import StepSchedule
from runner.training.training_rows import StepShares, row_sizes

ROWS = [
    {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "more": "x"},
    {"input_ids": [4, 5], "labels": [4, 5], "more": "y"},  # the first token is predicted by nothing
    {"input_ids": [6], "labels": [6], "more": "z"},
    {"input_ids": [7, 8, 9, 10], "labels": [-100, -100, -100, 10], "more": "z"},
]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1], [2]])
def test_sizes_count_what_is_learned(order: list[int]) -> None:
    sizes = row_sizes(Dataset.from_list(ROWS).select(order))
    assert sizes.lengths == tuple([3, 2, 1, 4][i] for i in order)
    assert sizes.supervised == tuple([2, 1, 0, 1][i] for i in order)


def test_sizes_are_right_beyond_the_rows_that_are_counted_together() -> None:
    rows = Dataset.from_list([ROWS[i % 4] for i in range(25_003)])
    sizes = row_sizes(rows)
    assert sizes.lengths == tuple([3, 2, 1, 4][i % 4] for i in range(25_003))
    assert sizes.supervised == tuple([2, 1, 0, 1][i % 4] for i in range(25_003))


def test_ranks_share_a_step_evenly_and_know_all_of_it() -> None:
    rows = Dataset.from_list(ROWS)
    sizes = row_sizes(rows)
    schedule = StepSchedule(((2, 1, 0, 3), (1, 3, 3, 3)))
    shares = [StepShares(rows, schedule, sizes, rank=rank, ranks=2) for rank in (0, 1)]
    first, second = (share[0] for share in shares)
    assert [row.input_ids.tolist() for row in first.rows] == [[6], [1, 2, 3]]
    assert [row.labels.tolist() for row in second.rows] == [[4, 5], [-100, -100, -100, 10]]
    assert first.supervised == second.supervised == 4
    assert first.lengths_by_rank == second.lengths_by_rank == ((1, 3), (2, 4))
    assert shares[0][1].supervised == 4
    assert len(shares[0]) == 2
