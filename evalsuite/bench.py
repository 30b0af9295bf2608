"""What every part of one evaluation shares: the model, the examples, progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.errors import EvaluationError
from evalsuite.examples import Example, read_examples
from evalsuite.generation import Answer, generate_answers
from evalsuite.records import Decoding, EvaluationSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every part of one evaluation shares."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    partitions: Mapping[str, Path]
    spec: EvaluationSpec
    folder: Path
    on_progress: Progress | None

    def examples(self, partition: str, limit: int | None = None) -> list[Example]:
        """The examples of a partition, in its order."""
        if partition not in self.partitions:
            raise EvaluationError(
                f"partition {partition!r} is not prepared; there are "
                f"{', '.join(sorted(self.partitions))}."
            )
        return read_examples(self.partitions[partition], limit=limit)

    def counter(self, label: str, total: int) -> Callable[[int], None] | None:
        """Passes the number of finished examples on, under ``label``."""
        if self.on_progress is None:
            return None
        report = self.on_progress
        return lambda done: report(label, done, total)

    def answers(
        self, label: str, prompts: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Answer]:
        """Answers to ``prompts`` as declared."""
        return generate_answers(
            self.model,
            self.tokenizer,
            prompts,
            decoding=decoding,
            stop_token_ids=self.spec.stop_token_ids,
            pad_token_id=self.spec.pad_token_id,
            batch_tokens=self.spec.batch_tokens,
            seed=self.spec.seed,
            answer_marker=self.spec.answer_marker,
            on_progress=self.counter(label, len(prompts)),
        )
