from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data.partition import SPLITS, Split, assign_partitions, partition_sizes
from runner.data.reading.row_store import RowIndex
from runner.errors import DataError
from runner.recipe import Partition


def key(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)


def index_of(
    contents: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
    sources: Sequence[int] | None = None,
) -> RowIndex:
    def keys(texts: Sequence[str]) -> np.ndarray:
        return np.array([key(text) for text in texts], dtype=np.uint64)

    return RowIndex(
        contents=keys(contents),
        groups=None if groups is None else keys(groups),
        strata=None if strata is None else keys(strata),
        sources=np.array(sources or [0] * len(contents), dtype=np.int16),
    )


def numbered(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def assign(
    block: Partition, index: RowIndex, *, seed: int = 1, pinned: Sequence[Split | None] = (None,)
) -> list[Split]:
    codes = assign_partitions(block, index, seed=seed, pinned=pinned)
    return [SPLITS[code] for code in codes]


def test_by_position_cuts_in_file_order_with_exact_counts() -> None:
    assigned = assign(Partition(by="position"), index_of(numbered(100)))
    assert assigned == ["train"] * 80 + ["validation"] * 10 + ["test"] * 10


def test_by_random_has_exact_counts_and_depends_on_the_seed_alone() -> None:
    block = Partition(by="random")
    first = assign(block, index_of(numbered(1000)))
    assert Counter(first) == {"train": 800, "validation": 100, "test": 100}
    assert first == assign(block, index_of(numbered(1000)[::-1]))
    assert first != assign(block, index_of(numbered(1000)), seed=2)


def test_by_random_is_the_same_for_ever() -> None:
    """The order is that of a hash: it must not move with a library's random number generator."""
    block = Partition(by="random", train=0.5, validation=0.25, test=0.25)
    assigned = assign(block, index_of(numbered(12)), seed=42)
    assert "".join(split[1] for split in assigned) == EXPECTED_RANDOM


EXPECTED_RANDOM = "rreerarraaer"


def test_by_hash_appending_rows_moves_no_old_one() -> None:
    old = assign(Partition(by="hash"), index_of(numbered(500)))
    assert assign(Partition(by="hash"), index_of(numbered(510)), seed=2)[:500] == old


def test_by_hash_equal_rows_stay_together() -> None:
    assigned = assign(Partition(by="hash"), index_of(numbered(200) * 2))
    assert assigned[:200] == assigned[200:]


def test_by_hash_shares_are_near() -> None:
    counts = Counter(assign(Partition(by="hash"), index_of(numbered(20_000))))
    assert abs(counts["train"] - 16_000) < 250
    assert abs(counts["test"] - 2_000) < 180


@pytest.mark.parametrize("by", ["position", "random", "hash"])
def test_a_group_is_never_torn_apart(by: str) -> None:
    contents = numbered(2000)
    groups = [f"author {i * 7 % 300}" for i in range(2000)]
    assigned = assign(Partition.model_validate({"by": by}), index_of(contents, groups=groups))
    found: dict[str, set[Split]] = {}
    for group, split in zip(groups, assigned, strict=True):
        found.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in found.values())
    counts = Counter(assigned)
    assert abs(counts["train"] - 1600) < 160
    assert counts["validation"] > 100
    assert counts["test"] > 100


def test_groups_by_hash_do_not_move_when_rows_are_appended() -> None:
    groups = [f"g{i % 40}" for i in range(400)]
    old = assign(Partition(by="hash"), index_of(numbered(400), groups=groups))
    more = index_of(numbered(430), groups=[*groups, *(f"g{i % 50}" for i in range(30))])
    assert assign(Partition(by="hash"), more)[:400] == old


@pytest.mark.parametrize("by", ["position", "random"])
def test_strata_have_the_shares_each(by: str) -> None:
    strata = ["rare" if i % 20 == 0 else "common" for i in range(1000)]
    block = Partition.model_validate({"by": by})
    assigned = assign(block, index_of(numbered(1000), strata=strata))
    for name, rows in (("rare", 50), ("common", 950)):
        counts = Counter(s for s, n in zip(assigned, strata, strict=True) if n == name)
        assert counts["train"] == rows * 8 // 10
        assert counts["test"] == rows // 10


@pytest.mark.parametrize("by", ["position", "random"])
def test_strata_are_divided_each_on_its_own(by: str) -> None:
    """Interleaved strata of all sizes get what rows of one stratum alone would get."""
    strata = [f"s{int(i**0.5) * 7 % 13}" for i in range(500)]
    block = Partition.model_validate({"by": by})
    assigned = assign(block, index_of(numbered(500), strata=strata))
    order = sorted(range(500), key=lambda row: hashlib.sha256(f"1:{row}".encode()).digest())
    for name in set(strata):
        rows = [row for row in (order if by == "random" else range(500)) if strata[row] == name]
        sizes = partition_sizes(np.array([0.8, 0.1, 0.1]), len(rows)).tolist()
        wanted = [split for split, size in zip(SPLITS, sizes, strict=True) for _ in range(size)]
        assert [assigned[row] for row in rows] == wanted


def test_strata_without_end_take_time_that_grows_with_the_rows() -> None:
    """A column with as many values as rows: seconds, where each value against each took minutes."""
    keys = np.arange(120_000, dtype=np.uint64)
    index = RowIndex(
        contents=keys, groups=None, strata=keys // 12, sources=np.zeros(len(keys), dtype=np.int16)
    )
    started = time.perf_counter()
    codes = assign_partitions(Partition(by="position"), index, seed=1, pinned=[None])
    assert time.perf_counter() - started < 5
    assert np.bincount(codes).tolist() == [100_000, 10_000, 10_000]


def test_sources_that_name_their_partition_are_not_divided() -> None:
    sources = [0] * 80 + [1] * 20
    block = Partition(by="position", train=0.75, validation=0.25, test=0)
    index = index_of(numbered(100), sources=sources)
    assigned = assign(block, index, pinned=[None, "test"])
    assert assigned == ["train"] * 60 + ["validation"] * 20 + ["test"] * 20


def test_rows_of_a_pinned_group_follow_it() -> None:
    sources = [0, 0, 0, 0, 1]
    groups = ["a", "b", "c", "d", "b"]
    block = Partition(by="position", train=1, validation=0, test=0)
    index = index_of(numbered(5), sources=sources, groups=groups)
    assigned = assign(block, index, pinned=[None, "test"])
    assert assigned == ["train", "test", "train", "train", "test"]


def test_a_group_pinned_to_two_partitions_is_refused() -> None:
    index = index_of(numbered(2), sources=[0, 1], groups=["a", "a"])
    with pytest.raises(DataError, match=r"row 1 is of a group .* test .* train"):
        assign(Partition(), index, pinned=["train", "test"])


def test_a_named_partition_without_rows_is_an_error() -> None:
    index = index_of(numbered(3), sources=[0, 0, 0])
    with pytest.raises(DataError, match=r"^dataset\.source\[1\]: no test rows: "):
        assign(Partition(train=1, validation=0, test=0), index, pinned=[None, "test"])
    assert assign(Partition(), index, pinned=["test", "test"]) == ["test"] * 3


def test_counts_of_divided_rows_do_not_hold_the_others() -> None:
    index = index_of(numbered(23), sources=[0] * 3 + [1] * 20)
    block = Partition(by="position", train=0.9, validation=0.1, test=0)
    with pytest.raises(DataError, match=r"divides 3 rows into train 3 \(share 0\.9\), valid.* 0 "):
        assign(block, index, pinned=[None, "test"])
    with pytest.raises(DataError, match=r"no train .* divides 0 rows into train 0 \(share 0\.9\)"):
        assign(block, index_of(numbered(2), sources=[1, 1]), pinned=[None, "test"])


def test_everything_pinned_needs_no_shares() -> None:
    index = index_of(numbered(3), sources=[0, 1, 1])
    assert assign(Partition(), index, pinned=["train", "test"]) == ["train", "test", "test"]


@given(
    st.integers(1, 5000),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.29, 0.7, 0.01), (1.0, 0.0, 0.0)]),
)
def test_sizes_sum_to_the_rows_and_are_within_one_of_exact(
    rows: int, shares: tuple[float, float, float]
) -> None:
    sizes = partition_sizes(np.array(shares), rows)
    assert sizes.sum() == rows
    assert all(abs(size - share * rows) < 1 for size, share in zip(sizes, shares, strict=True))


def test_shares_that_are_not_binary_fractions_are_exact() -> None:
    assert partition_sizes(np.array([0.8, 0.1, 0.1]), 30).tolist() == [24, 3, 3]
    assert partition_sizes(np.array([0.29, 0.71, 0.0]), 100).tolist() == [29, 71, 0]


def test_a_partition_without_rows_is_an_error() -> None:
    with pytest.raises(DataError, match=r"no validation and no test rows.*`by: position` divides"):
        assign(Partition(by="position"), index_of(numbered(1)))


@pytest.mark.parametrize("by", ["position", "random", "hash"])
def test_a_share_of_zero_gets_no_row(by: str) -> None:
    shares = {"train": 0.9, "validation": 0, "test": 0.1}
    block = Partition.model_validate({"by": by, **shares})
    assert set(assign(block, index_of(numbered(2000)))) == {"train", "test"}
    whole = Partition.model_validate({"by": by, "train": 1, "validation": 0, "test": 0})
    assert set(assign(whole, index_of(numbered(2000)))) == {"train"}
