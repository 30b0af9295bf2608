from __future__ import annotations

import hashlib

import numpy as np

from runner.data.row_copies import copies_before, weighted_copies


def keys(count: int) -> np.ndarray:
    digests = (hashlib.sha256(str(i).encode()).digest()[:8] for i in range(count))
    return np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64)


def test_copies_are_counted_in_the_order_of_the_rows() -> None:
    contents = np.array([5, 9, 5, 5, 9, 1], dtype=np.uint64)
    assert copies_before(contents).tolist() == [0, 0, 1, 2, 1, 0]
    assert copies_before(contents[:0]).tolist() == []


def test_whole_weights_repeat_every_row() -> None:
    weights = np.array([1.0, 2.0, 3.0])
    assert weighted_copies(weights, keys(3)).tolist() == [1, 2, 3]


def test_a_broken_weight_takes_that_share_of_the_rows() -> None:
    contents = keys(20_000)
    for weight in (0.25, 0.5, 1.5):
        copies = weighted_copies(np.full(len(contents), weight), contents)
        assert set(copies.tolist()) == {int(weight), int(weight) + 1}
        assert abs(copies.mean() - weight) < 0.015


def test_the_choice_is_independent_of_the_hash_partition() -> None:
    contents = keys(20_000)
    train = contents / 2.0**64 < 0.8
    copies = weighted_copies(np.full(len(contents), 0.5), contents)
    assert abs(copies[train].mean() - copies[~train].mean()) < 0.03


def test_appended_rows_change_no_choice() -> None:
    contents = keys(1000)
    weights = np.full(1000, 0.5)
    whole = weighted_copies(weights, contents)
    assert (weighted_copies(weights[:900], contents[:900]) == whole[:900]).all()
