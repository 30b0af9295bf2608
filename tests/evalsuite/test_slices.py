from __future__ import annotations

import numpy as np
import pytest

from evalsuite.results import PartitionLoss
from evalsuite.slices import MOST_VALUES, OTHERS, WITHOUT, SliceLoss, slice_losses
from evalsuite.statistics import paired_ratio, ratio


def losses(nll: list[float], lengths: list[int], slices: list[str] | None = None) -> PartitionLoss:
    n = len(nll)
    return PartitionLoss(
        example_ids=tuple(map(str, range(n))),
        nll=np.array(nll),
        tokens=np.full(n, 2.0),
        bytes=np.full(n, 8.0),
        correct=np.ones(n),
        lengths=np.array(lengths, dtype=np.float64),
        slices=tuple(slices or [""] * n),
        clusters=("",) * n,
        kl=None,
    )


def by_name(found: tuple[SliceLoss, ...]) -> dict[str, SliceLoss]:
    return {one.name: one for one in found}


def test_lengths_double_from_slice_to_slice() -> None:
    stored = losses([1.0] * 6, [31, 32, 63, 64, 127, 1000])
    found = slice_losses({"test": stored}, None)
    assert [(s.name, s.examples) for s in found] == [
        ("under 32", 1), ("32-63", 2), ("64-127", 2), ("512-1023", 1),
    ]  # fmt: skip
    assert all(s.kind == "length" and s.adapter is None and s.difference is None for s in found)


def test_one_slice_is_the_whole_and_says_nothing() -> None:
    assert slice_losses({"test": losses([1.0, 2.0], [40, 50])}, None) == ()


def test_the_numbers_are_the_estimators_on_the_slice() -> None:
    before = losses([2.0, 4.0, 6.0, 9.0], [10, 10, 40, 50], ["a", "b", "a", "b"])
    after = losses([1.0, 3.5, 5.0, 9.5], [10, 10, 40, 50], ["a", "b", "a", "b"])
    found = by_name(slice_losses({"test": before}, {"test": after}))["b"]
    whole = ratio([3.5, 9.5], [2.0, 2.0])
    difference = paired_ratio([4.0, 9.0], [3.5, 9.5], [2.0, 2.0])
    assert found.adapter is not None and found.difference is not None
    assert (found.adapter.value, found.adapter.low) == (whole.value, whole.low)
    assert (found.difference.value, found.difference.high) == (difference.value, difference.high)
    assert (found.examples, found.tokens) == (2, 4)


def test_rare_values_and_missing_ones_have_their_names() -> None:
    values = [f"topic {n}" for n in range(MOST_VALUES - 1) for _ in range(2)] + ["x", "y", "", ""]
    found = by_name(
        slice_losses(None, {"test": losses([1.0] * len(values), [5] * len(values), values)})
    )
    assert found[WITHOUT].examples == 2
    assert found[OTHERS].examples == 2
    assert len(found) == MOST_VALUES + 1


def test_partitions_come_in_order() -> None:
    stored = {name: losses([1.0, 2.0], [5, 50]) for name in ("test", "neutral")}
    assert [s.partition for s in slice_losses(stored, None)] == ["neutral"] * 2 + ["test"] * 2
    with pytest.raises(KeyError):
        slice_losses(stored, {"test": stored["test"]})
