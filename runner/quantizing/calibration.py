"""The rows that GPTQ calibrates with: some of the train partition, token for token as trained on.

They are rows of train and of nothing else, so the search for leaks between train and the held-out
partitions is a search for leaks of calibration too. Where a recipe tolerates leaks, a row that a
held-out row repeats exactly is passed over all the same.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.data.partition_files import partition_dataset
from runner.data.prepared_data import WHOLE
from runner.digests import digest_of_json
from runner.errors import DataError
from runner.recipe import Calibration

if TYPE_CHECKING:
    from runner.data.prepared_data import PreparedData

# gptqmodel leaves shorter rows out without a word (its calibration_data_min_length is 10).
SHORTEST = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRows:
    """Token ids by row, in the order in which they are used; ``digest`` is that of all of them."""

    token_ids: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(map(len, self.token_ids))

    @property
    def digest(self) -> str:
        """What a lock and a key of the cache know the rows by."""
        return digest_of_json(self.token_ids)


def calibration_rows(data: PreparedData, block: Calibration, *, seed: int) -> CalibrationRows:
    """The first ``block.examples`` usable rows of train, in an order that ``seed`` decides.

    Usable: at least ``SHORTEST`` tokens after ``block.max_length``, and no held-out row has the
    same tokens.

    Raises:
        DataError: no row is usable.
    """
    train = partition_dataset(data, "train")["input_ids"]
    held_out = _held_out_rows(data)
    order = list(range(len(train)))
    random.Random(f"calibration {seed}").shuffle(order)
    chosen: list[tuple[int, ...]] = []
    for place in order:
        ids = tuple(train[place])
        cut = ids[: block.max_length]
        if len(cut) >= SHORTEST and _bytes(ids) not in held_out:
            chosen.append(cut)
        if len(chosen) == block.examples:
            break
    if not chosen:
        raise DataError(
            f"quantization.calibration: no row of train has {SHORTEST} tokens or more and differs "
            "from every held-out row. GPTQ needs rows to calibrate with."
        )
    return CalibrationRows(token_ids=tuple(chosen))


def _held_out_rows(data: PreparedData) -> set[bytes]:
    """Token ids of every row of every other partition and set."""
    places = [(data, name) for name in data.partitions if name != "train"]
    places += [(extra, WHOLE) for extra in data.sets.values()]
    columns = (partition_dataset(part, name)["input_ids"] for part, name in places)
    return {_bytes(ids) for column in columns for ids in column}


def _bytes(ids: Sequence[int]) -> bytes:
    return array("i", ids).tobytes()
