"""Asks the tiny model of the tests, through the same door as everything else."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from evalsuite.generation import Answer, generate_answers
from evalsuite.records import Decoding
from tests.evalsuite.conftest import PAD, STOP, VOCABULARY

GREEDY = Decoding(max_new_tokens=24)
SAMPLED = Decoding(max_new_tokens=24, do_sample=True, temperature=0.9, top_p=0.95, top_k=50)
# Several tokens end an answer, so that rows of a batch end at very different places.
STOPS = (STOP, 5, 7, 11, 33, 63)


class Tokenizer:
    """Writes token ids as words; 0 to 2 are special."""

    all_special_tokens = ("<0>", "<1>", "<2>")
    bos_token = "<1>"

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        words = (f"<{i}>" if i < 3 else f"t{i}" for i in ids if i > 2 or not skip_special_tokens)
        return " ".join(words)

    def __call__(self, text: str) -> dict[str, list[int]]:
        """As most tokenizers: the beginning-of-sequence token is put before any text."""
        return {"input_ids": [1, *(int(word.strip("t<>")) for word in text.split())]}


def make_prompts(count: int = 24) -> list[list[int]]:
    """Prompts of 2 to 41 tokens."""
    chosen = random.Random(6)
    lengths = [chosen.randint(1, 40) for _ in range(count)]
    return [[1, *(chosen.randrange(3, VOCABULARY) for _ in range(n))] for n in lengths]


def ask(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding = GREEDY,
    *,
    batch_tokens: int | None = 4096,
    stops: Sequence[int] = STOPS,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
    **more: Any,
) -> list[Answer]:
    return generate_answers(
        model,
        Tokenizer(),
        prompts,
        decoding=decoding,
        stop_token_ids=stops,
        pad_token_id=PAD,
        batch_tokens=batch_tokens,
        seed=seed,
        on_progress=on_progress,
        **more,
    )
