from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.recipe import Training
from runner.training.step_schedule import count_steps, make_schedule, shuffled


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 7), st.integers(1, 9))
def test_every_example_is_seen_before_one_is_seen_again(
    lengths: list[int], steps: int, batch_size: int
) -> None:
    schedule = make_schedule(lengths, steps=steps, batch_size=batch_size, seed=3)
    assert [len(step) for step in schedule.steps] == [batch_size] * steps
    assert len(schedule) == len(list(schedule)) == steps * batch_size
    seen = Counter(schedule)
    counts = [seen[index] for index in range(len(lengths))]
    assert max(counts) - min(counts) <= 1
    for step in schedule.steps:
        assert [lengths[i] for i in step] == sorted(lengths[i] for i in step)


def test_the_order_depends_on_the_seed_alone() -> None:
    lengths = [5] * 50
    first, again, other = (
        make_schedule(lengths, steps=3, batch_size=8, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_shuffle_is_the_same_for_ever() -> None:
    # A library's generator may change between versions; this order may not.
    assert shuffled(8, "42:0") == [2, 5, 6, 3, 7, 4, 0, 1]


@pytest.mark.parametrize(
    ("training", "examples", "steps"),
    [
        ({"max_steps": 7, "batch_size": 4}, 1000, 7),
        ({"epochs": 1, "batch_size": 4}, 10, 3),
        ({"epochs": 2.5, "batch_size": 4}, 8, 5),
        ({"epochs": 0.01, "batch_size": 4}, 8, 1),
    ],
)
def test_steps_of_a_recipe(training: dict[str, float], examples: int, steps: int) -> None:
    assert count_steps(Training.model_validate(training), examples) == steps
