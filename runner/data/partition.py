"""Which rows are train, validation and test: decided once, the same on every machine.

No random number generator is used: libraries change theirs between versions. Rows are numbered and
known by 64-bit keys of their content, so millions of them are a few megabytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runner.data.reading.row_store import RowIndex
from runner.errors import DataError
from runner.recipe import Partition

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Codes = NDArray[np.int8]  # places in SPLITS
_UNDECIDED = np.int8(-1)


def assign_partitions(
    block: Partition, index: RowIndex, *, seed: int, pinned: Sequence[Split | None]
) -> Codes:
    """The partition of every row as its place in ``SPLITS``: [rows].

    ``position`` and ``random`` give exact counts (with groups, as near as whole groups allow).
    ``hash`` gives each row, or each group, by its own content, so that appending rows moves no old
    one and equal rows stay together; its counts are near the shares.

    Args:
        block: The recipe's ``dataset.partition``.
        index: Keys of the rows.
        seed: The recipe's seed; ``random`` alone depends on it.
        pinned: For each source the partition that its rows belong to, or None.

    Raises:
        DataError: a partition that the recipe gives a share or a source gets no row, or a group is
            in sources of different partitions.
    """
    codes = _pinned_codes(index, pinned)
    _follow_group(codes, index)
    free = np.flatnonzero(codes == _UNDECIDED)
    shares = np.array([float(getattr(block, split)) for split in SPLITS])
    if len(free):
        codes[free] = _divide(block, index, free, shares, seed)
    if None in pinned:
        _check_counts(block, codes, free, shares)
    _check_pinned(codes, pinned)
    return codes


def partition_sizes(shares: NDArray[np.float64], rows: int) -> NDArray[np.int64]:
    """Exact sizes that sum to ``rows``, by the largest remainder; ties go to the earlier split."""
    # 0.1 * 30 is 3.0000000000000004 and 0.29 * 100 is 28.999999999999996: rounded before cutting
    exact = np.round(shares * rows, 6)
    sizes = exact.astype(np.int64)
    by_remainder = np.argsort(sizes - exact, kind="stable")
    sizes[by_remainder[: rows - sizes.sum()]] += 1
    return sizes


def _pinned_codes(index: RowIndex, pinned: Sequence[Split | None]) -> Codes:
    by_source = np.array([-1 if p is None else SPLITS.index(p) for p in pinned], dtype=np.int8)
    return by_source[index.sources]


def _follow_group(codes: Codes, index: RowIndex) -> None:
    """Rows whose group lies in a pinned source go where that source goes."""
    if index.groups is None:
        return
    known = codes != _UNDECIDED
    groups, places = np.unique(index.groups[known], return_index=True)
    if not len(groups):
        return
    first = codes[known][places]
    found = np.minimum(np.searchsorted(groups, index.groups), len(groups) - 1)
    member = groups[found] == index.groups
    torn = member & known & (codes != first[found])
    if torn.any():
        row = int(np.flatnonzero(torn)[0])
        raise DataError(
            f"dataset.partition.group: row {row} is of a group that is in the "
            f"{SPLITS[codes[row]]} rows of one source and in the {SPLITS[first[found[row]]]} rows "
            "of another. Keep a group's rows in sources of one partition."
        )
    codes[member] = first[found[member]]


def _divide(
    block: Partition,
    index: RowIndex,
    free: NDArray[np.int64],
    shares: NDArray[np.float64],
    seed: int,
) -> Codes:
    """Codes of the rows ``free``, which no source pins."""
    if block.by == "hash":
        keys = index.contents if index.groups is None else index.groups
        return _codes_by_hash(keys[free], shares)
    if index.groups is not None:
        return _codes_of_groups(index.groups[free], shares, seed if block.by == "random" else None)
    order = _order(len(free), seed if block.by == "random" else None)
    strata = np.zeros(len(free), dtype=np.uint64) if index.strata is None else index.strata[free]
    order = order[np.argsort(strata[order], kind="stable")]
    _, sizes = np.unique(strata, return_counts=True)
    codes = np.empty(len(free), dtype=np.int8)
    codes[order] = np.concatenate([_codes_in_order(shares, int(size)) for size in sizes])
    return codes


def _codes_in_order(shares: NDArray[np.float64], rows: int) -> Codes:
    return np.repeat(np.arange(3, dtype=np.int8), partition_sizes(shares, rows))


def _codes_by_hash(keys: NDArray[np.uint64], shares: NDArray[np.float64]) -> Codes:
    points = keys / 2.0**64  # uniform in [0, 1)
    codes = np.searchsorted(np.cumsum(shares)[:2], points, side="right").astype(np.int8)
    if not shares[2]:  # shares that sum to 1 within rounding leave nothing to the test
        codes[codes == 2] = 1 if shares[1] else 0  # noqa: PLR2004 - the place of test
    return codes


def _codes_of_groups(
    groups: NDArray[np.uint64], shares: NDArray[np.float64], seed: int | None
) -> Codes:
    """Whole groups in order: each goes where its middle row would go by position."""
    names, first, members, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first, kind="stable")
    order = order[_order(len(names), seed)]
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    edges = np.cumsum(partition_sizes(shares, len(groups)))
    codes = np.empty(len(names), dtype=np.int8)
    codes[order] = np.searchsorted(edges[:2], middle, side="right")
    return codes[members]


def _order(rows: int, seed: int | None) -> NDArray[np.int64]:
    """Row numbers shuffled by ``seed``, or as they are."""
    if seed is None:
        return np.arange(rows)
    keys = [hashlib.sha256(f"{seed}:{row}".encode()).digest() for row in range(rows)]
    return np.array(sorted(range(rows), key=keys.__getitem__), dtype=np.int64)


def _check_counts(
    block: Partition, codes: Codes, free: NDArray[np.int64], shares: NDArray[np.float64]
) -> None:
    """Refuse shares of the rows ``free`` that leave a partition without any row."""
    counts = np.bincount(codes[free], minlength=3)
    there = set(np.unique(codes).tolist())
    empty = [s for at, s in enumerate(SPLITS) if shares[at] and at not in there]
    if empty:
        got = ", ".join(
            f"{split} {count} (share {share:g})"
            for split, share, count in zip(SPLITS, shares, counts, strict=True)
        )
        raise DataError(
            f"dataset.partition: no {' and no '.join(empty)} rows: `by: {block.by}` divides "
            f"{len(free)} rows into {got}. Give more rows or other shares."
        )


def _check_pinned(codes: Codes, pinned: Sequence[Split | None]) -> None:
    """Refuse a partition whose sources have no row that is read."""
    there = set(np.unique(codes).tolist())
    for place, split in enumerate(pinned):
        if split is not None and SPLITS.index(split) not in there:
            raise DataError(
                f"dataset.source[{place}]: no {split} rows: it has none that dataset.filter "
                "passes and no earlier source names. Change the filter or the source."
            )
