"""The rows of an optimizer step as the engine takes them, and their sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Dataset as TorchDataset

from runner.training.step_schedule import StepSchedule

if TYPE_CHECKING:
    import numpy
    from datasets import Dataset
    from numpy.typing import NDArray

IGNORED = -100  # label of a token that is not supervised
_AT_ONCE = 10_000  # rows whose sizes are counted together


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """An example of T tokens: ``input_ids`` and ``labels`` (T,), -100 where nothing is learned."""

    input_ids: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShare:
    """What one rank computes of optimizer step ``number`` (from 0).

    ``supervised`` are the tokens that the whole step learns from, over all ranks, and
    ``lengths_by_rank`` the lengths of every rank's examples, in tokens.
    """

    number: int
    rows: tuple[TrainingRow, ...]
    supervised: int
    lengths_by_rank: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSizes:
    """Of every row: all its tokens, and those that are predicted and learned from."""

    lengths: tuple[int, ...]
    supervised: tuple[int, ...]


def row_sizes(rows: Dataset) -> RowSizes:
    """Count the tokens of rows with ``input_ids`` and ``labels``, a few thousand in memory."""
    lengths: list[int] = []
    supervised: list[int] = []
    for length, learned in _sizes(rows):
        lengths.extend(length.tolist())
        supervised.extend(learned.tolist())
    return RowSizes(lengths=tuple(lengths), supervised=tuple(supervised))


def _sizes(rows: Dataset) -> Iterator[tuple[NDArray[numpy.int64], NDArray[numpy.int64]]]:
    import numpy

    for table in rows.select_columns(["labels"]).with_format("arrow").iter(_AT_ONCE):
        for chunk in table.column("labels").chunks:
            values = chunk.flatten().to_numpy(zero_copy_only=False)
            ends = numpy.cumsum(chunk.value_lengths().to_numpy(zero_copy_only=False))
            starts = numpy.concatenate([[0], ends[:-1]])
            counted = numpy.concatenate([[0], numpy.cumsum(values != IGNORED)])
            first = values[starts] != IGNORED  # nothing comes before it that could predict it
            yield ends - starts, counted[ends] - counted[starts] - first


class StepShares(TorchDataset[StepShare]):
    """This rank's share of every optimizer step of a schedule."""

    def __init__(
        self,
        rows: Dataset,
        schedule: StepSchedule,
        sizes: RowSizes,
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Rank ``rank`` gets every ``ranks``-th example of a step, from shortest to longest."""
        self.rows = rows.select_columns(["input_ids", "labels"])
        self.schedule = schedule
        self.sizes = sizes
        self.rank = rank
        self.ranks = ranks

    def __len__(self) -> int:
        """Optimizer steps."""
        return len(self.schedule.steps)

    def __getitem__(self, number: int) -> StepShare:
        """Read the rows of step ``number`` (from 0)."""
        step = self.schedule.steps[number]
        shares = [step[rank :: self.ranks] for rank in range(self.ranks)]
        return StepShare(
            number=number,
            rows=self._read(shares[self.rank]),
            supervised=sum(self.sizes.supervised[index] for index in step),
            lengths_by_rank=tuple(
                tuple(self.sizes.lengths[index] for index in share) for share in shares
            ),
        )

    def _read(self, indices: tuple[int, ...]) -> tuple[TrainingRow, ...]:
        read = self.rows[list(indices)]
        pairs = zip(read["input_ids"], read["labels"], strict=True)
        return tuple(
            TrainingRow(
                input_ids=torch.as_tensor(ids, dtype=torch.long),
                labels=torch.as_tensor(labels, dtype=torch.long),
            )
            for ids, labels in pairs
        )
