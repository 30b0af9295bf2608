"""How often rows occur: equal ones in the data, and those that a weight repeats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def copies_before(contents: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row, how many rows before it say the same: [rows]."""
    order = np.argsort(contents, kind="stable")
    ordered = contents[order]
    begins = np.ones(len(ordered), dtype=np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, len(ordered)))
    copies = np.empty(len(contents), dtype=np.int64)
    copies[order] = np.arange(len(ordered)) - np.repeat(starts, lengths)
    return copies


def weighted_copies(
    weights: NDArray[np.float64], contents: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """How often each train row is used: the weight's whole part, and one more for a share of rows.

    Which rows those are is decided by content, and not as the hash partition decides.
    """
    whole = np.floor(weights)
    # The finalizer of splitmix64 (Steele et al. 2014): every bit of the key moves every other, so
    # that the key's order, by which the partition is cut, says nothing of the result.
    mixed = (contents ^ (contents >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    points = (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
    return np.asarray(whole + (points < weights - whole), dtype=np.int64)
