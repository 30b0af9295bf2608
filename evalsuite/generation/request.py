"""What is asked of an engine: prompts, and how they are to be answered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from evalsuite.errors import EvaluationError
from evalsuite.records import Decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer that is wanted.

    ``example_id`` and ``number`` (which of several answers to one prompt) name it: they decide,
    with the seed of the settings, what is drawn for it, whatever else is asked beside it.
    """

    example_id: str
    prompt_ids: tuple[int, ...]
    number: int = 0

    def draw_key(self, seed: int) -> int:
        """64 bits, read as a signed integer, that decide all that is drawn for this answer."""
        named = f"{seed}\n{self.number}\n{self.example_id}".encode()
        return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), signed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSettings:
    """How all requests of one task are answered.

    Args:
        decoding: The whole of how tokens are chosen; the checkpoint's own generation configuration
            has no say.
        stop_token_ids: Any of these ends an answer.
        pad_token_id: Fills shorter prompts on the left, masked.
        seed: Decides, with each request's name, the tokens that are drawn.
        stop: Texts that end an answer and are no part of it.
        answer_marker: Text, special tokens included, after whose last occurrence the answer begins;
            empty where a model writes nothing before it.
    """

    decoding: Decoding
    stop_token_ids: tuple[int, ...]
    pad_token_id: int
    seed: int
    stop: tuple[str, ...] = ()
    answer_marker: str = ""


def require_answerable(requests: Sequence[Request], settings: AnswerSettings) -> None:
    """Refuse what no engine can answer.

    Raises:
        EvaluationError: A prompt is empty, two requests have one name, or nothing ends an answer.
    """
    if not settings.stop_token_ids:
        raise EvaluationError("there is no stop token; no answer could ever be finished.")
    seen: set[tuple[str, int]] = set()
    for place, request in enumerate(requests):
        if not request.prompt_ids:
            raise EvaluationError(f"prompt {place} is empty; there is nothing to continue.")
        name = (request.example_id, request.number)
        if name in seen:
            raise EvaluationError(
                f"answer {request.number} to example {request.example_id} is asked for twice; "
                "example ids must be unique."
            )
        seen.add(name)
