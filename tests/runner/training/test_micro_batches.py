"""Cutting a step: every example once, nothing beyond the budget, all ranks alike."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from runner.training.micro_batches import cut_alike, cut_padded, cut_step

lengths_of_a_step = st.lists(st.integers(1, 400), min_size=1, max_size=40)


@given(lengths_of_a_step, st.integers(1, 2000))
def test_a_cut_holds_every_example_once_and_keeps_to_the_budget(
    lengths: list[int], budget: int
) -> None:
    def summed(group: list[int]) -> int:
        return sum(lengths[index] for index in group)

    def filled_up(group: list[int]) -> int:
        return len(group) * max(lengths[index] for index in group)

    taken: Callable[[list[int]], int]
    for cut, taken in (
        (cut_step(lengths, budget), summed),
        (cut_padded(lengths, budget), filled_up),
    ):
        assert sorted(index for group in cut for index in group) == list(range(len(lengths)))
        assert all(len(group) == 1 or taken(group) <= budget for group in cut)
        longest = [max(lengths[index] for index in group) for group in cut]
        assert longest == sorted(longest, reverse=True)


def test_a_cut_is_as_coarse_as_the_budget_allows() -> None:
    assert cut_step([10, 10, 10, 10], 20) == [[0, 1], [2, 3]]
    assert cut_step([10, 30, 20], 60) == [[1, 2, 0]]
    assert cut_step([100, 5, 5], 10) == [[0], [1, 2]]
    assert cut_padded([10, 30, 20], 60) == [[1, 2], [0]]


@given(st.lists(lengths_of_a_step, min_size=2, max_size=4), st.integers(1, 1000))
def test_all_ranks_make_as_many_forward_passes(ranks: list[list[int]], budget: int) -> None:
    cuts = [cut_step(lengths, budget) for lengths in ranks]
    alike = cut_alike(cuts)
    assert {len(cut) for cut in alike} == {max(map(len, cuts))}
    for lengths, cut in zip(ranks, alike, strict=True):
        assert sorted(index for group in cut for index in group) == list(range(len(lengths)))
        assert all(len(g) == 1 or sum(lengths[i] for i in g) <= budget for g in cut if g)


def test_a_rank_with_fewer_examples_divides_before_it_idles() -> None:
    assert cut_alike([[[0, 1, 2]], [[0], [1], [2], [3]]])[0] == [[0], [1], [2], []]
