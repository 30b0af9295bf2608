"""Which rows are train, validation and test: decided once, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from runner.errors import DataError
from runner.recipe import Partition

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def assign_partitions(block: Partition, row_digests: Sequence[str], *, seed: int) -> list[Split]:
    """The partition of every row, in the order of the rows.

    ``position`` and ``random`` give exact counts. ``hash`` gives each row by its own content, so
    that appending rows moves no old one and equal rows stay together; its counts are near the
    shares. No random number generator is used: libraries change theirs between versions.

    Args:
        block: The recipe's ``dataset.partition``.
        row_digests: SHA-256 of each row's content, in hexadecimal.
        seed: The recipe's seed; ``random`` alone depends on it.

    Raises:
        DataError: a partition that the recipe gives a share gets no row.
    """
    shares = {split: float(getattr(block, split)) for split in SPLITS}
    if block.by == "hash":
        assigned = [_split_by_hash(digest, shares) for digest in row_digests]
    else:
        order = _order(block, len(row_digests), seed)
        assigned = _assign_in_order(order, partition_sizes(shares, len(order)))
    _check_counts(block, assigned, shares)
    return assigned


def partition_sizes(shares: dict[Split, float], rows: int) -> dict[Split, int]:
    """Exact sizes that sum to ``rows``, by the largest remainder; ties go to the earlier split."""
    exact = {split: share * rows for split, share in shares.items()}
    # 0.1 * 30 is 3.0000000000000004 and 0.29 * 100 is 28.999999999999996: rounded before cutting
    sizes = {split: int(round(value, 6)) for split, value in exact.items()}
    by_remainder = sorted(SPLITS, key=lambda split: sizes[split] - round(exact[split], 6))
    for split in by_remainder[: rows - sum(sizes.values())]:
        sizes[split] += 1
    return sizes


def _order(block: Partition, rows: int, seed: int) -> list[int]:
    if block.by == "position":
        return list(range(rows))
    keys = [hashlib.sha256(f"{seed}:{row}".encode()).digest() for row in range(rows)]
    return sorted(range(rows), key=keys.__getitem__)


def _assign_in_order(order: Sequence[int], sizes: dict[Split, int]) -> list[Split]:
    assigned: list[Split] = ["train"] * len(order)
    start = 0
    for split in SPLITS:
        for row in order[start : start + sizes[split]]:
            assigned[row] = split
        start += sizes[split]
    return assigned


def _split_by_hash(digest: str, shares: dict[Split, float]) -> Split:
    point = int(digest[:16], 16) / 2**64  # uniform in [0, 1)
    if point < shares["train"]:
        return "train"
    if point < shares["train"] + shares["validation"] or not shares["test"]:
        return "validation" if shares["validation"] else "train"
    return "test"


def _check_counts(block: Partition, assigned: Sequence[Split], shares: dict[Split, float]) -> None:
    counts = {split: assigned.count(split) for split in SPLITS}
    empty = [split for split in SPLITS if shares[split] and not counts[split]]
    if empty:
        got = ", ".join(f"{split} {counts[split]} (share {shares[split]:g})" for split in SPLITS)
        raise DataError(
            f"dataset.partition: no {' and no '.join(empty)} rows: `by: {block.by}` divides "
            f"{len(assigned)} rows into {got}. Give more rows or other shares."
        )
