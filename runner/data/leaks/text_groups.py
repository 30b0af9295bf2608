"""Rows grouped by what they say: all comparing is done between different texts, not rows.

One prompt that stands in every row is one text, however many pairs of rows it makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextGroups:
    """Rows, known by their places in some list, in groups of equal texts.

    Shapes: ``places`` [grouped rows] sorted by group, then partition, then place; ``starts``
    [groups + 1] where each group begins there; ``counts`` [groups, partitions] rows of each.
    """

    places: Places
    starts: Places
    counts: NDArray[np.int32]

    def __len__(self) -> int:
        """The number of different texts."""
        return len(self.starts) - 1

    @property
    def first_places(self) -> Places:
        """One row of each group: [groups]."""
        return self.places[self.starts[:-1]]

    def members(self, group: int, partition: int) -> Places:
        """The rows of ``group`` that are in ``partition``."""
        before = int(self.starts[group] + self.counts[group, :partition].sum())
        return np.asarray(self.places[before : before + int(self.counts[group, partition])])

    def rows_of(self, groups: Flags, partition: int, codes: NDArray[np.int8]) -> Places:
        """The rows of the flagged groups that are in ``partition``."""
        chosen = np.repeat(groups, np.diff(self.starts))
        places = self.places[chosen]
        return np.asarray(places[codes[places] == partition])

    def totals(self, flags: Flags) -> Places:
        """How many rows of each group are flagged, from a flag a row: [groups]."""
        sums = np.append(np.int32(0), np.cumsum(flags[self.places], dtype=np.int32))
        return np.asarray(sums[self.starts[1:]] - sums[self.starts[:-1]])


def group_texts(keys: NDArray[np.uint64], codes: NDArray[np.int8], partitions: int) -> TextGroups:
    """Group rows by the digests of their texts.

    Args:
        keys: Digests [rows, 2]; rows whose digest is zero have nothing to compare.
        codes: The partition of each row [rows].
        partitions: How many there are.
    """
    places = np.flatnonzero(keys.any(axis=1)).astype(np.int32)
    places = places[np.lexsort((codes[places], keys[places, 1], keys[places, 0]))]
    begins = np.ones(len(places), dtype=np.bool_)
    for half in (keys[places, 0], keys[places, 1]):  # one at a time: this is the most memory used
        begins[1:] &= half[1:] == half[:-1]
    begins[1:] ^= True
    starts = np.append(np.flatnonzero(begins), len(places)).astype(np.int32)
    counts = np.zeros((len(starts) - 1) * partitions, dtype=np.int32)
    np.add.at(counts, (np.cumsum(begins) - 1) * partitions + codes[places], 1)
    return TextGroups(places=places, starts=starts, counts=counts.reshape(-1, partitions))
