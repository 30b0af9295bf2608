"""Tokenized examples with their labels, as flat arrays: what the label contract is checked on."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNSUPERVISED = -100  # the label that PyTorch's cross-entropy ignores by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """Rows of different lengths, end to end: row i is ``values[offsets[i]:offsets[i + 1]]``.

    Shapes: ``values`` [total], ``offsets`` [rows + 1].
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each row: [rows]."""
        return np.diff(self.offsets)

    def sums(self, values: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of ``values`` [total], which lie beside ``self.values``, are true: [rows]."""
        running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return np.asarray(running[self.offsets[1:]] - running[self.offsets[:-1]])

    def any(self, values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which rows have a true one among ``values`` [total]: [rows]."""
        return np.asarray(self.sums(values) > 0, dtype=np.bool_)

    def place(self) -> NDArray[np.int64]:
        """Place of each value in its row, from 0: [total]."""
        return np.asarray(np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths))

    def take(self, indices: NDArray[np.int64]) -> Ragged:
        """These rows, in this order."""
        lengths = self.lengths[indices]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        return Ragged(values=self.values[self.places(indices)], offsets=offsets)

    def places(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the values of these rows lie, row after row: [their total]."""
        lengths = self.lengths[indices]
        before = np.cumsum(lengths) - lengths
        starts = np.repeat(self.offsets[:-1][indices] - before, lengths)
        return np.asarray(np.arange(int(lengths.sum())) + starts)

    def row(self, index: int) -> list[int]:
        """One row as a list."""
        return [int(v) for v in self.values[self.offsets[index] : self.offsets[index + 1]]]


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """Lists of token ids end to end."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    flat = bytearray().join([array("i", row) for row in rows])  # much faster than by NumPy
    return Ragged(values=np.frombuffer(flat, dtype=np.intc).astype(np.int32), offsets=offsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRows:
    """A batch of tokenized examples.

    ``labels`` [total] lie beside ``input_ids.values`` and are not shifted. ``rows`` [rows] are row
    numbers in the source. ``supervised`` holds the texts that each row's supervised stretches must
    decode to (with loss on all, the text that the whole row must decode to), ``supervised_bytes``
    [rows] the UTF-8 bytes of what is supervised; ``answers`` are the
    last answers without reasoning and without what the template adds to them, ``questions`` what
    was asked, without the template, ``contexts`` what it was asked in. ``marks_differ`` [rows]: the
    chat template marks other text with ``{% generation %}`` than is supervised.
    """

    rows: NDArray[np.int64]
    input_ids: Ragged
    labels: NDArray[np.int32]
    prompt_ids: Ragged
    prompts: tuple[str, ...]
    questions: tuple[str, ...]
    contexts: tuple[str, ...]
    answers: tuple[str, ...]
    supervised: tuple[tuple[str, ...], ...]
    supervised_bytes: NDArray[np.int64]
    marks_differ: NDArray[np.bool_]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which tokens are supervised: [total]."""
        return np.asarray(self.labels != UNSUPERVISED)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> LabelledRows:
        """These examples of the batch, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        picked = chosen.tolist()
        return LabelledRows(
            rows=self.rows[chosen],
            input_ids=self.input_ids.take(chosen),
            labels=self.labels[self.input_ids.places(chosen)],
            prompt_ids=self.prompt_ids.take(chosen),
            prompts=tuple(self.prompts[i] for i in picked),
            questions=tuple(self.questions[i] for i in picked),
            contexts=tuple(self.contexts[i] for i in picked),
            answers=tuple(self.answers[i] for i in picked),
            supervised=tuple(self.supervised[i] for i in picked),
            supervised_bytes=self.supervised_bytes[chosen],
            marks_differ=self.marks_differ[chosen],
        )


def labels_from_spans(
    input_ids: Ragged, spans: Iterable[tuple[int, int, int]]
) -> NDArray[np.int32]:
    """Labels [total]: the token ids inside ``spans`` (row, first, after), else -100."""
    edges = np.zeros(len(input_ids.values) + 1, dtype=np.int64)
    places = np.array(list(spans), dtype=np.int64).reshape(-1, 3)
    starts = input_ids.offsets[places[:, 0]]
    np.add.at(edges, starts + places[:, 1], 1)
    np.add.at(edges, starts + places[:, 2], -1)
    inside = np.cumsum(edges[:-1]) > 0
    return np.where(inside, input_ids.values, UNSUPERVISED).astype(np.int32)
