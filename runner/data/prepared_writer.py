"""Writes prepared data: one file a partition, lists of problems and leaks, and the record of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runner.data.batch_maker import BatchMaker, MadeBatch
from runner.data.formats.row_formats import RowFormat
from runner.data.leaks.kept_texts import KeptTexts
from runner.data.leaks.leak_files import write_leaks
from runner.data.leaks.leak_finder import FoundLeaks, LeakFinder
from runner.data.leaks.leak_texts import Prompt
from runner.data.partition import SPLITS, Codes, Split
from runner.data.partition_files import PartitionWriter, histogram_edges, with_ids
from runner.data.prepared_data import PROBLEMS_FILE, Histogram, PreparedData, ShownToken
from runner.data.reading.row_store import RowIndex
from runner.data.reading.row_template import RowError
from runner.data.reading.sources import SourceRecord
from runner.data.row_copies import copies_before, weighted_copies
from runner.data.rule_outcomes import OutcomeCounts
from runner.data.workers import make_batches
from runner.errors import DataError
from runner.recipe import Recipe

SHARE_BINS = 20
TRAIN = SPLITS.index("train")
OnProgress = Callable[[str, int, int], None]
Notes = Callable[[Mapping[str, int]], Sequence[str]]


class PreparedWriter:
    """One pass over all batches into ``folder``, then the leaks, then the weights."""

    def __init__(
        self,
        *,
        folder: Path,
        recipe: Recipe,
        batches: BatchMaker,
        index: RowIndex,
        codes: Codes,
    ) -> None:
        """Begin with nothing written.

        Args:
            folder: Where the files go.
            recipe: What is meant.
            batches: Makes the examples.
            index: Keys of all rows.
            codes: The partition of every row, as its place in ``SPLITS``.

        Raises:
            DataError: a template raises on a sample.
        """
        self._folder, self._recipe, self._batches = folder, recipe, batches
        self._index, self._codes = index, codes
        self._copies = copies_before(index.contents)
        self._weights = np.array([source.weight for source in recipe.dataset.sources])
        self._outcomes = OutcomeCounts(
            policies=batches.policies, max_length=recipe.template.max_length
        )
        self._samples = [
            _asked(batches.maker.row_format, text) for text in recipe.evaluation.samples
        ]
        self._finder = LeakFinder(recipe.dataset.leaks, folder)
        self._texts = KeptTexts(folder / ".texts", len(index))
        self._writers: dict[Split, PartitionWriter] = {}
        self._counts: dict[str, int] = {}
        self._shares = np.zeros(SHARE_BINS, dtype=np.int64)
        self._example: tuple[ShownToken, ...] = ()
        self._weight_notes: list[str] = []
        self._leaks: FoundLeaks | None = None

    def write(self, *, processes: int, on_progress: OnProgress | None) -> None:
        """Make, check and write all examples; find leaks; apply policies and weights."""
        done = 0
        try:
            for made in make_batches(self._batches, processes):
                self._take(made)
                done += made.source_rows
                if on_progress is not None:
                    on_progress("preparing rows", done, len(self._index))
        finally:
            for writer in self._writers.values():
                writer.close()
        if on_progress is not None:
            on_progress("looking for leaks", done, len(self._index))
        self._find_leaks()
        self._repeat_train_rows()
        self._write_problems()

    def _take(self, made: MadeBatch) -> None:
        partitions = [SPLITS[self._codes[problem.row]] for problem in made.problems]
        self._outcomes.add(made.problems, partitions, made.source_rows)
        for name, count in made.counts.items():
            self._counts[name] = self._counts.get(name, 0) + count
        codes = self._codes[made.rows]
        used = self._times(made.rows, codes) > 0  # what a weight leaves out leaks nothing
        self._finder.add(made.rows[used], codes[used], made.fingerprints.take(used))
        self._texts.add(made.rows, made.table)
        self._shares += np.histogram(made.shares, bins=SHARE_BINS, range=(0, 1))[0]
        table = with_ids(made.table, self._example_ids(made.rows))
        for place, split in enumerate(SPLITS):
            chosen = np.flatnonzero(codes == place)
            if len(chosen):
                whole = len(chosen) == len(codes)
                self._writer(split).write(table if whole else table.take(chosen))
        first = np.flatnonzero(codes == TRAIN)
        if len(first) and not self._example:
            self._example = self._batches.example(made.number, int(made.rows[first[0]]))

    def _writer(self, split: Split) -> PartitionWriter:
        if split not in self._writers:
            self._writers[split] = PartitionWriter(self._folder / f"{split}.parquet")
        return self._writers[split]

    def example_id(self, row: int) -> str:
        """A stable id: from the row's content, with a count where equal rows came before."""
        return self._example_ids(np.array([row], dtype=np.int64))[0]

    def _example_ids(self, rows: NDArray[np.int64]) -> list[str]:
        contents, copies = self._index.contents[rows].tolist(), self._copies[rows].tolist()
        return [
            f"{c:016x}-{n}" if n else f"{c:016x}" for c, n in zip(contents, copies, strict=True)
        ]

    def _find_leaks(self) -> None:
        extra = {"samples": self._samples} if self._samples else None
        self._leaks = self._finder.find(self._texts.texts, extra=extra)
        self._texts.remove()
        write_leaks(self._leaks, self._folder, example_id=self.example_id)
        dropped = self._leaks.dropped
        if len(dropped):
            gone = np.zeros(len(self._index), dtype=np.bool_)
            gone[dropped] = True
            self._rewrite_train(lambda rows: (~gone[rows]).astype(np.int64))

    def _repeat_train_rows(self) -> None:
        if (self._weights == 1).all() or "train" not in self._writers:
            return
        used = np.zeros(len(self._weights), dtype=np.int64)

        def copies(rows: NDArray[np.int64]) -> NDArray[np.int64]:
            times = self._times(rows, np.full(len(rows), TRAIN, dtype=np.int8))
            np.add.at(used, self._index.sources[rows], times)
            return times

        self._rewrite_train(copies)
        self._weight_notes = [
            f"dataset.source[{place}]: weight {block.weight:g}, {used[place]:,} examples in train"
            for place, block in enumerate(self._recipe.dataset.sources)
            if block.weight != 1
        ]

    def _times(self, rows: NDArray[np.int64], codes: Codes) -> NDArray[np.int64]:
        """How often each of ``rows``, of the partitions ``codes``, is used."""
        weights = np.where(codes == TRAIN, self._weights[self._index.sources[rows]], 1.0)
        return weighted_copies(weights, self._index.contents[rows])

    def _rewrite_train(self, copies: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> None:
        writer = self._writers["train"].rewritten(copies)
        if writer.rows:
            self._writers["train"] = writer
        else:
            del self._writers["train"]

    def _write_problems(self) -> None:
        from pyarrow import parquet

        parquet.write_table(self._outcomes.table(), self._folder / PROBLEMS_FILE)

    def record(
        self, *, key: str, source: SourceRecord, form: tuple[str, bool], notes: Notes
    ) -> PreparedData:
        """What was made; ``form`` is the format's name and whether it was detected."""
        if self._leaks is None:
            raise RuntimeError("nothing was written yet")
        edges = histogram_edges(max((w.longest for w in self._writers.values()), default=0))
        maker = self._batches.maker
        chat = maker.chat
        kept = int(self._shares.sum())
        bins = tuple(100 * i // SHARE_BINS for i in range(SHARE_BINS + 1))
        return PreparedData(
            folder=str(self._folder),
            key=key,
            partitions={s: self._writers[s].record(edges) for s in SPLITS if s in self._writers},
            source_rows=len(self._index),
            rows_kept=kept,
            format=form[0],
            format_detected=form[1],
            rules=self._outcomes.outcomes(),
            leaks=self._leaks.report,
            shares=Histogram(edges=bins, counts=tuple(map(int, self._shares))),
            notes=(*notes(self._counts), *self._repeated(), *self._weight_notes),
            data_digest=source.digest,
            template_digest=maker.template_digest,
            chat_template=chat.text,
            stop_token=chat.stop_token,
            stop_token_ids=chat.stop_token_ids,
            bos_token=chat.bos_token,
            # Prompts that are no row's are asked as most rows are.
            thinking=chat.thinking_for(reasoned=2 * self._counts.get("reasoned", 0) > kept),
            answer_marker=chat.answer_marker,
            example=self._example,
        )

    def _repeated(self) -> list[str]:
        repeated = int((self._copies > 0).sum())
        return [f"rows that say what an earlier row says: {repeated:,}"] if repeated else []


def _asked(form: RowFormat, sample: str) -> Prompt:
    """What the rows would hold if one asked ``sample``.

    Raises:
        DataError: a template raises on it.
    """
    try:
        asked = form.question(sample)
    except RowError as error:
        raise DataError(f"evaluation.samples: {sample!r}: {error}") from None
    answered = replace(asked, messages=(*asked.messages, {"role": "assistant", "content": ""}))
    return Prompt(text=answered.question, context=answered.context)
