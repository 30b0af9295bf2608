"""What answers prompts: transformers in this process, vLLM in this process, or a server."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from evalsuite.generation.answer import Answer
from evalsuite.generation.answer_log import AnswerLog
from evalsuite.generation.request import AnswerSettings, Request, require_answerable
from evalsuite.records import EngineSpec, Subject

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Engine(Protocol):
    """Answers requests, batch after batch."""

    def identity(self) -> str:
        """What decides its answers beside the model: its name, version, place."""

    def note(self) -> str | None:
        """How the model was run, for people; None where there is nothing to say."""

    def answer(
        self,
        requests: Sequence[Request],
        settings: AnswerSettings,
        *,
        done: frozenset[int] = frozenset(),
    ) -> Iterator[Mapping[int, Answer]]:
        """Answers by place in ``requests``, as they come; those at ``done`` may be left out.

        Raises:
            EvaluationError: The engine cannot answer as declared, or something fails.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSubject:
    """The model that an engine is to run, as each engine needs it.

    ``model`` is live, with the adapter on where that is judged; ``base`` is the base model's folder
    or Hub id, at ``revision``, and ``adapter`` the adapter's folder, None for the base model.
    ``batch_tokens`` is None where the engine chooses.
    """

    subject: Subject
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_tokens: int | None = None
    base: str = ""
    revision: str | None = None
    adapter: Path | None = None
    trust_remote_code: bool = False


# Name in a recipe -> function from the recipe's block and the subject to an engine.
ENGINES = {
    "transformers": "evalsuite.generation.transformers_engine:open_transformers",
    "vllm": "evalsuite.generation.vllm_engine:open_vllm",
    "openai": "evalsuite.generation.openai_engine:open_openai",
}


def open_engine(spec: EngineSpec, subject: EngineSubject) -> Engine:
    """The engine that ``spec`` names, ready to run ``subject``.

    Raises:
        EvaluationError: A package is missing, or the engine cannot run this model.
    """
    module, _, name = ENGINES[spec.name].partition(":")
    opener = cast(
        "Callable[[EngineSpec, EngineSubject], Engine]",
        getattr(importlib.import_module(module), name),
    )
    return opener(spec, subject)


def answer_all(
    engine: Engine,
    requests: Sequence[Request],
    settings: AnswerSettings,
    *,
    log: AnswerLog,
    on_progress: Callable[[int], None] | None = None,
) -> list[Answer]:
    """The answer to every request, in their order; those in ``log`` are not made again.

    Raises:
        EvaluationError: A prompt is empty, a request comes twice, or there is no stop token; or as
            the engine says.
    """
    require_answerable(requests, settings)
    answers = {
        place: answer
        for place, request in enumerate(requests)
        if (answer := log.answer(request)) is not None
    }
    for made in engine.answer(requests, settings, done=frozenset(answers)):
        log.add({requests[place]: answer for place, answer in made.items()})
        answers |= made
        if on_progress is not None:
            on_progress(len(answers))
    return [answers[place] for place in range(len(requests))]
