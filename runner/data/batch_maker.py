"""One batch of stored rows to examples that are kept, problems, and fingerprints for leaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runner.data.evaluation_columns import EvaluationColumns
from runner.data.labels.example_maker import ExampleMaker, MadeExamples
from runner.data.labels.label_contract import Contract, ContractCheck
from runner.data.labels.labelled_rows import LabelledRows
from runner.data.labels.tokenization import shown_tokens
from runner.data.leaks.near_duplicates import Fingerprints, fingerprints
from runner.data.partition_files import example_table
from runner.data.prepared_data import ShownToken
from runner.data.reading.row_store import StoredBatch, StoredRows
from runner.data.rule_outcomes import TOO_LONG, Outcome, Policies, Problem, row_text
from runner.recipe import Leaks

if TYPE_CHECKING:
    import pyarrow as pa


SPECIAL, UNUSABLE = "special_token_in_text", "unusable_row"


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBatch:
    """What became of ``source_rows`` rows.

    ``table`` holds the examples that are kept, ``rows`` [kept] their row numbers, ``shares`` [kept]
    the supervised share of their tokens; ``counts`` are the maker's, for its notes.
    """

    number: int
    source_rows: int
    table: pa.Table
    rows: NDArray[np.int64]
    shares: NDArray[np.float64]
    problems: tuple[Problem, ...]
    counts: Mapping[str, int]
    fingerprints: Fingerprints


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMaker:
    """Makes batches as one recipe says; sent once to each process that does."""

    stored: StoredRows
    maker: ExampleMaker
    contract: Contract
    policies: Policies
    leaks: Leaks
    columns: EvaluationColumns

    def make(self, number: int) -> MadeBatch:
        """The batch of this number: rendered, tokenized and checked."""
        batch = self.stored.batch(number)
        numbers = range(batch.start, batch.start + len(batch.rows))
        made = self.maker.make(numbers, batch.rows)
        problems, kept = self._sift(batch, made)
        rows = [batch.rows[row - batch.start] for row in kept.rows]
        return MadeBatch(
            number=number,
            source_rows=len(batch.rows),
            table=example_table(kept, self.columns.texts(rows)),
            rows=kept.rows,
            shares=kept.input_ids.sums(kept.mask) / np.maximum(kept.input_ids.lengths, 1),
            problems=problems,
            counts=made.counts,
            fingerprints=fingerprints(kept.questions, kept.answers, kept.contexts, self.leaks),
        )

    def example(self, number: int, row: int) -> tuple[ShownToken, ...]:
        """The tokens of one source row of a batch, for people."""
        batch = self.stored.batch(number)
        made = self.maker.make([row], [batch.rows[row - batch.start]])
        return shown_tokens(self.maker.tokenizer, made.labelled, 0)

    def _sift(
        self, batch: StoredBatch, made: MadeExamples
    ) -> tuple[tuple[Problem, ...], LabelledRows]:
        """All problems of a batch, and the rows that none of them leaves out."""
        broken = ContractCheck(self.contract).check(made.labelled)
        found = [*self._found_in_rows(made), *_found_in_labels(made.labelled, broken)]
        problems = tuple(
            Problem(
                row=row,
                place=batch.places[row - batch.start],
                rule=rule,
                outcome=outcome or ("dropped" if self.policies.drops(rule) else "kept"),
                detail=detail,
                tokens=tokens,
                text=row_text(batch.rows[row - batch.start]),
            )
            for row, rule, detail, tokens, outcome in sorted(found, key=lambda f: f[:2])
        )
        dropped = {problem.row for problem in problems if problem.outcome == "dropped"}
        kept = np.flatnonzero([int(row) not in dropped for row in made.labelled.rows])
        everything = len(kept) == len(made.labelled.rows)
        return problems, made.labelled if everything else made.labelled.take(kept)

    def _found_in_rows(self, made: MadeExamples) -> Iterator[_Found]:
        escape = self.policies.by_rule[SPECIAL] == "escape"
        for broken in made.broken:
            # A text that cannot be escaped has no policy there: its row cannot be used.
            rule = UNUSABLE if escape and broken.rule == SPECIAL else broken.rule
            yield broken.row, rule, broken.detail, 0, None
        without = ", cut without a stop token"
        cut_short = without if self.policies.by_rule[TOO_LONG] == "truncate" else ""
        for row, tokens in made.too_long:
            yield row, TOO_LONG, f"{tokens:,} tokens{cut_short}", tokens, "dropped"
        for row, tokens in made.truncated:
            yield row, TOO_LONG, f"cut from {tokens:,} tokens", tokens, "cut"


_Found = tuple[int, str, str, int, Outcome | None]


def _found_in_labels(
    labelled: LabelledRows, broken: Mapping[str, Sequence[int]]
) -> Iterator[_Found]:
    for rule, places in broken.items():
        for place in places:
            tokens = int(labelled.input_ids.lengths[place])
            yield int(labelled.rows[place]), rule, "", tokens, None
