from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data.partition import SPLITS, assign_partitions, partition_sizes
from runner.errors import DataError
from runner.recipe import Partition


def digests(count: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]


def test_by_position_cuts_in_file_order_with_exact_counts() -> None:
    assigned = assign_partitions(Partition(by="position"), digests(100), seed=1)
    assert assigned == ["train"] * 80 + ["validation"] * 10 + ["test"] * 10


def test_by_random_has_exact_counts_and_depends_on_the_seed_alone() -> None:
    block = Partition(by="random")
    first = assign_partitions(block, digests(1000), seed=1)
    assert Counter(first) == {"train": 800, "validation": 100, "test": 100}
    assert first == assign_partitions(block, digests(1000)[::-1], seed=1)
    assert first != assign_partitions(block, digests(1000), seed=2)


def test_by_random_is_the_same_for_ever() -> None:
    """The order is that of a hash: it must not move with a library's random number generator."""
    assigned = assign_partitions(
        Partition(by="random", train=0.5, validation=0.25, test=0.25), digests(12), seed=42
    )
    assert "".join(split[1] for split in assigned) == EXPECTED_RANDOM


EXPECTED_RANDOM = "rreerarraaer"


def test_by_hash_appending_rows_moves_no_old_one() -> None:
    old = assign_partitions(Partition(by="hash"), digests(500), seed=1)
    assert assign_partitions(Partition(by="hash"), digests(510), seed=2)[:500] == old


def test_by_hash_equal_rows_stay_together() -> None:
    rows = digests(200) * 2
    assigned = assign_partitions(Partition(by="hash"), rows, seed=1)
    assert assigned[:200] == assigned[200:]


def test_by_hash_shares_are_near() -> None:
    counts = Counter(assign_partitions(Partition(by="hash"), digests(20_000), seed=1))
    assert abs(counts["train"] - 16_000) < 250
    assert abs(counts["test"] - 2_000) < 180


@given(
    st.integers(0, 10_000),
    st.integers(1, 100).flatmap(lambda a: st.tuples(st.just(a), st.integers(0, 100 - a))),
)
def test_sizes_sum_to_the_rows_and_miss_the_share_by_less_than_one(
    rows: int, percent: tuple[int, int]
) -> None:
    train, validation = (p / 100 for p in percent)
    shares = {"train": train, "validation": validation, "test": 1 - train - validation}
    sizes = partition_sizes(shares, rows)
    assert sum(sizes.values()) == rows
    assert all(abs(sizes[split] - shares[split] * rows) < 1.001 for split in SPLITS)


@pytest.mark.parametrize("by", ["position", "random", "hash"])
def test_a_share_of_zero_gets_no_row(by: str) -> None:
    block = Partition(by=by, train=0.9, validation=0, test=0.1)
    assert set(assign_partitions(block, digests(2000), seed=1)) == {"train", "test"}
    whole = Partition(by=by, train=1, validation=0, test=0)
    assert set(assign_partitions(whole, digests(2000), seed=1)) == {"train"}


@pytest.mark.parametrize("by", ["position", "random", "hash"])
def test_a_partition_without_rows_is_an_error_with_counts(by: str) -> None:
    with pytest.raises(DataError, match=r"no .*test rows: `by: \w+` divides 2 rows into train"):
        assign_partitions(
            Partition(by=by, train=0.98, validation=0.01, test=0.01), digests(2), seed=1
        )
