"""Held-out loss by parts of a partition: by the examples' lengths, and by a declared column.

A slice says where a difference comes from. No gate judges one: among many slices some look bad by
chance, and each has its interval for that reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evalsuite.records import SliceKind, SliceLoss, SliceValue
from evalsuite.results import PartitionLoss
from evalsuite.statistics import Estimate, cluster_numbers, paired_ratio, ratio

SHORTEST = 32  # tokens; shorter examples are one slice, longer ones double from slice to slice
MOST_VALUES = 20  # of a column have a slice of their own; rarer ones are in one
OTHERS = "(others)"
WITHOUT = "(none)"


def slice_losses(
    before: Mapping[str, PartitionLoss] | None, after: Mapping[str, PartitionLoss] | None
) -> tuple[SliceLoss, ...]:
    """The loss on every slice of every partition, in a fixed order.

    Args:
        before: The base's losses by partition, None where it was not evaluated.
        after: The adapter's, on the same examples; None likewise.
    """
    stored = before if before is not None else (after or {})
    return tuple(
        _loss(partition, kind, name, places, before, after)
        for partition in sorted(stored)
        for kind, name, places in _slices(stored[partition])
    )


def _slices(losses: PartitionLoss) -> Iterator[tuple[SliceKind, str, NDArray[np.intp]]]:
    """Every slice by kind and name, with the places of its examples; none where one is all."""
    shortest = [_shortest(int(length)) for length in losses.lengths]
    yield from _of_kind("length", [*map(_range, shortest)], [*map(_range, sorted(set(shortest)))])
    if any(losses.slices):
        counts = Counter(losses.slices)
        own = {value for value, _ in counts.most_common(MOST_VALUES)}
        names = [(value or WITHOUT) if value in own else OTHERS for value in losses.slices]
        yield from _of_kind("column", names, sorted(set(names)))


def _of_kind(
    kind: SliceKind, names: Sequence[str], order: Sequence[str]
) -> Iterator[tuple[SliceKind, str, NDArray[np.intp]]]:
    if len(order) < 2:  # noqa: PLR2004 - one slice is the whole
        return
    named = np.array(names, dtype=object)
    for name in order:
        yield kind, name, np.flatnonzero(named == name)


def _shortest(length: int) -> int:
    """The shortest length of the slice that an example of ``length`` tokens belongs to."""
    low = SHORTEST
    while length >= 2 * low:
        low *= 2
    return low if length >= SHORTEST else 0


def _range(shortest: int) -> str:
    return f"{shortest}-{2 * shortest - 1}" if shortest else f"under {SHORTEST}"


def _loss(  # noqa: PLR0917 - the parts of one row
    partition: str,
    kind: SliceKind,
    name: str,
    places: NDArray[np.intp],
    before: Mapping[str, PartitionLoss] | None,
    after: Mapping[str, PartitionLoss] | None,
) -> SliceLoss:
    base = None if before is None else before[partition].take(places)
    adapter = None if after is None else after[partition].take(places)
    some = base or adapter
    assert some is not None
    clusters = cluster_numbers(some.clusters)
    difference = None
    if base is not None and adapter is not None:
        difference = paired_ratio(base.nll, adapter.nll, some.tokens, clusters=clusters)
    return SliceLoss(
        partition=partition,
        kind=kind,
        name=name,
        examples=len(places),
        tokens=int(some.tokens.sum()),
        base=None if base is None else _value(ratio(base.nll, base.tokens, clusters=clusters)),
        adapter=None
        if adapter is None
        else _value(ratio(adapter.nll, adapter.tokens, clusters=clusters)),
        difference=None if difference is None else _value(difference),
    )


def _value(estimate: Estimate) -> SliceValue:
    return SliceValue(value=estimate.value, low=estimate.low, high=estimate.high)
