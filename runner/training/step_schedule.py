"""Which examples belong to which optimizer step: fixed by the seed, before training starts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.recipe import Training


@dataclass(frozen=True, slots=True)
class StepSchedule:
    """Example indices of every optimizer step, `steps` by `batch_size`.

    Examples are taken from one shuffled pass over the data after the other, so an example is seen
    again only when all have been seen. Within a step they are sorted by length, which changes no
    gradient (they are summed) and makes micro-batches with little padding.
    """

    steps: tuple[tuple[int, ...], ...]

    def __iter__(self) -> Iterator[int]:
        """Example indices in the order the trainer takes them."""
        for step in self.steps:
            yield from step

    def __len__(self) -> int:
        """Number of examples over all steps."""
        return sum(map(len, self.steps))

    def tokens(self, lengths: Sequence[int]) -> list[int]:
        """Tokens of each step, given the examples' lengths."""
        return [sum(lengths[index] for index in step) for step in self.steps]


def count_steps(training: Training, examples: int) -> int:
    """Optimizer steps of the recipe: ``max_steps``, or enough for ``epochs`` passes."""
    if training.max_steps is not None:
        return training.max_steps
    if training.epochs is None:
        raise ValueError("a recipe has max_steps or epochs; the reader checks it")
    return max(1, math.ceil(training.epochs * examples / training.batch_size))


def make_schedule(
    lengths: Sequence[int], *, steps: int, batch_size: int, seed: int
) -> StepSchedule:
    """The schedule for examples of ``lengths`` tokens."""
    stream = _stream(len(lengths), seed)
    chosen = ([next(stream) for _ in range(batch_size)] for _ in range(steps))
    return StepSchedule(tuple(tuple(sorted(s, key=lambda i: (lengths[i], i))) for s in chosen))


def _stream(examples: int, seed: int) -> Iterator[int]:
    epoch = 0
    while True:
        yield from shuffled(examples, f"{seed}:{epoch}")
        epoch += 1


def shuffled(count: int, key: str) -> list[int]:
    """0 … count-1 in an order that depends on ``key`` alone, not on a library's generator."""
    return sorted(range(count), key=lambda i: hashlib.sha256(f"{key}:{i}".encode()).digest())
