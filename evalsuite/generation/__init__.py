"""Answers to prompts: batched decoding exactly as declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from evalsuite.generation.answer import Answer
from evalsuite.generation.answer_log import AnswerLog
from evalsuite.generation.engine import (
    Engine,
    EngineSubject,
    answer_all,
    open_engine,
)
from evalsuite.generation.request import AnswerSettings, Request
from evalsuite.generation.transformers_engine import TransformersEngine
from evalsuite.records import Decoding

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Answer",
    "AnswerLog",
    "AnswerSettings",
    "Engine",
    "EngineSubject",
    "Request",
    "TransformersEngine",
    "answer_all",
    "generate_answers",
    "open_engine",
]


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    decoding: Decoding,
    stop_token_ids: Sequence[int],
    pad_token_id: int,
    batch_tokens: int | None,
    seed: int,
    on_progress: Callable[[int], None] | None = None,
    answer_marker: str = "",
    stop: Sequence[str] = (),
    names: Sequence[str] | None = None,
) -> list[Answer]:
    """Continue every prompt with transformers, in the order given, and keep nothing on disk.

    Args:
        model: A causal language model of transformers, bare or wrapped by peft.
        tokenizer: Decodes the new tokens.
        prompts: Token ids of rendered prompts.
        decoding: How tokens are chosen.
        stop_token_ids: Any of these ends an answer.
        pad_token_id: Fills shorter prompts on the left, masked.
        batch_tokens: At most so many tokens in a batch; None: as many as suit the device.
        seed: Decides, with the names, the tokens that are drawn.
        on_progress: Told after every batch how many prompts are done.
        answer_marker: Text after which an answer begins; see `AnswerSettings`.
        stop: Texts that end an answer and are no part of it.
        names: Decide, with the seed, what is drawn for each prompt; None: their places.

    Raises:
        EvaluationError: A prompt is empty, or there is no stop token.
    """
    named = names if names is not None else [str(place) for place in range(len(prompts))]
    requests = [
        Request(example_id=name, prompt_ids=tuple(prompt))
        for name, prompt in zip(named, prompts, strict=True)
    ]
    settings = AnswerSettings(
        decoding=decoding,
        stop_token_ids=tuple(stop_token_ids),
        pad_token_id=pad_token_id,
        seed=seed,
        stop=tuple(stop),
        answer_marker=answer_marker,
    )
    engine = TransformersEngine(model=model, tokenizer=tokenizer, batch_tokens=batch_tokens)
    return answer_all(engine, requests, settings, log=AnswerLog(), on_progress=on_progress)
