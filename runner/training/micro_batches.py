"""How the examples of an optimizer step are cut into parts that are computed at once."""

from __future__ import annotations

from collections.abc import Sequence

Cut = list[list[int]]


def cut_step(lengths: Sequence[int], budget: int) -> Cut:
    """Indices of whole examples, grouped so that a group's lengths add up to at most ``budget``.

    Groups have examples of nearly one length, the longest first: what does not fit in memory shows
    at once. An example beyond the budget is a group of its own. Lengths and budget in tokens.
    """
    cut: Cut = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if not cut or lengths[index] > room:
            cut.append([])
            room = budget
        cut[-1].append(index)
        room -= lengths[index]
    return cut


def cut_padded(lengths: Sequence[int], budget: int) -> Cut:
    """As ``cut_step``, where every example of a group takes as much as the group's longest."""
    cut: Cut = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if not cut or lengths[cut[-1][0]] * (len(cut[-1]) + 1) > budget:
            cut.append([])
        cut[-1].append(index)
    return cut


def cut_alike(shares: Sequence[Cut]) -> list[Cut]:
    """The cuts of all ranks with the same number of groups, the last ones empty where it must be.

    Sharded models exchange weights in every forward pass, so no rank may make one more than others.
    """
    most = max(map(len, shares))
    return [_of_groups(share, most) for share in shares]


def _of_groups(cut: Cut, count: int) -> Cut:
    groups = [list(group) for group in cut]
    while len(groups) < count and any(len(group) > 1 for group in groups):
        largest = max(range(len(groups)), key=lambda at: len(groups[at]))
        half = len(groups[largest]) // 2
        groups[largest : largest + 1] = [groups[largest][:half], groups[largest][half:]]
    return groups + [[] for _ in range(count - len(groups))]
