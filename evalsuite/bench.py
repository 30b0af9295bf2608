"""What every part of one evaluation shares: the model, the examples, progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.errors import EvaluationError
from evalsuite.examples import Example, read_examples
from evalsuite.generation import (
    Answer,
    AnswerLog,
    AnswerSettings,
    Engine,
    Request,
    TransformersEngine,
    answer_all,
)
from evalsuite.records import Decoding, EvaluationSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every part of one evaluation shares.

    ``engine`` generates answers; None: transformers with ``model``. ``partial`` is a folder where
    answers are kept as they are made, for the same evaluation after a kill; None keeps none.
    ``most`` bounds the examples of every partition, None for all.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    partitions: Mapping[str, Path]
    spec: EvaluationSpec
    folder: Path
    on_progress: Progress | None
    engine: Engine | None = None
    partial: Path | None = None
    most: int | None = None
    backwards: bool = False

    def examples(self, partition: str, limit: int | None = None) -> list[Example]:
        """The examples of a partition, in its order or ``backwards``."""
        if partition not in self.partitions:
            raise EvaluationError(
                f"partition {partition!r} is not prepared; there are "
                f"{', '.join(sorted(self.partitions))}."
            )
        limits = [number for number in (limit, self.most) if number is not None]
        found = read_examples(self.partitions[partition], limit=min(limits, default=None))
        return found[::-1] if self.backwards else found

    def counter(self, label: str, total: int) -> Callable[[int], None] | None:
        """Passes the number of finished examples on, under ``label``."""
        if self.on_progress is None:
            return None
        report = self.on_progress
        return lambda done: report(label, done, total)

    @property
    def answering(self) -> Engine:
        """What generates answers."""
        return self.engine or TransformersEngine(
            model=self.model,
            tokenizer=self.tokenizer,
            batch_tokens=self.spec.generation_tokens,
        )

    def answers(
        self,
        label: str,
        requests: Sequence[Request],
        decoding: Decoding,
        *,
        stop: Sequence[str] = (),
        stop_token_ids: Sequence[int] | None = None,
        answer_marker: str | None = None,
        log: AnswerLog,
    ) -> list[Answer]:
        """Answers to ``requests`` as declared; None stands for the evaluation's own."""
        if stop_token_ids is None:
            stop_token_ids = self.spec.stop_token_ids
        settings = AnswerSettings(
            decoding=decoding,
            stop_token_ids=tuple(stop_token_ids),
            pad_token_id=self.spec.pad_token_id,
            seed=self.spec.seed,
            stop=tuple(stop),
            answer_marker=self.spec.answer_marker if answer_marker is None else answer_marker,
        )
        return answer_all(
            self.answering,
            requests,
            settings,
            log=log,
            on_progress=self.counter(label, len(requests)),
        )

    def log(self, name: str) -> AnswerLog:
        """The answers that were kept under ``name``."""
        return AnswerLog(None if self.partial is None else self.partial / f"{name}.jsonl")
