from __future__ import annotations

import copy
import logging
import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from evalsuite import generation
from evalsuite.errors import EvaluationError
from evalsuite.generation import Answer, generate_answers
from evalsuite.records import Decoding

from .conftest import PAD, STOP, VOCABULARY

GREEDY = Decoding(max_new_tokens=12)
SAMPLED = Decoding(max_new_tokens=12, do_sample=True, temperature=0.9, top_p=0.95, top_k=50)


class Tokenizer:
    """Writes token ids as words; 0 to 2 are special."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return " ".join(f"t{i}" for i in ids if i > 2)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    chosen = random.Random(6)
    lengths = [chosen.randint(1, 40) for _ in range(24)]
    return [[1, *(chosen.randrange(3, VOCABULARY) for _ in range(n))] for n in lengths]


def answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding = GREEDY,
    *,
    batch_tokens: int = 4096,
    stops: Sequence[int] = (STOP,),
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
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
    )


def greedy_by_hand(model: Any, prompt: list[int], count: int) -> list[int]:
    import torch

    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
            if tokens[-1] == STOP:
                break
    return tokens[len(prompt) :]


def test_greedy_answers_equal_a_plain_loop_without_cache(
    mistral: Any, prompts: list[list[int]]
) -> None:
    found = answers(mistral, prompts)
    for prompt, answer in zip(prompts, found, strict=True):
        assert list(answer.token_ids) == greedy_by_hand(mistral, prompt, 12)


def test_greedy_answers_do_not_depend_on_the_batch(mistral: Any, prompts: list[list[int]]) -> None:
    together = answers(mistral, prompts)
    assert answers(mistral, prompts, batch_tokens=1) == together
    assert answers(mistral, prompts, batch_tokens=8 * 53) == together
    assert answers(mistral, prompts[::-1])[::-1] == together


def test_an_answer_ends_with_its_stop_token(mistral: Any, prompts: list[list[int]]) -> None:
    free = answers(mistral, prompts)
    stop = free[0].token_ids[3]
    stopped = answers(mistral, prompts, stops=(STOP, stop))
    first = stopped[0]
    assert first.finished
    assert first.token_ids[-1] == stop
    assert first.token_ids == free[0].token_ids[: len(first.token_ids)]
    for answer in stopped:
        assert answer.finished == (answer.token_ids[-1] in (STOP, stop))
        assert answer.finished or len(answer.token_ids) == 12
        assert not set(answer.token_ids[:-1]) & {STOP, stop}


def test_special_tokens_are_not_in_the_text(mistral: Any, prompts: list[list[int]]) -> None:
    for answer in answers(mistral, prompts, stops=tuple(range(3, 40))):
        assert answer.text == " ".join(f"t{i}" for i in answer.token_ids if i > 2)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_checkpoints_own_settings_have_no_say(
    mistral: Any, prompts: list[list[int]], decoding: Decoding
) -> None:
    from transformers import GenerationConfig

    expected = answers(mistral, prompts, decoding)
    model = copy.deepcopy(mistral)
    own = GenerationConfig(
        do_sample=True,
        temperature=0.1,
        top_k=3,
        min_p=0.5,
        repetition_penalty=1.8,
        no_repeat_ngram_size=1,
        min_new_tokens=12,
        suppress_tokens=list(range(3, 60)),
        num_return_sequences=2,
        max_length=5,
    )
    model.generation_config = own
    assert answers(model, prompts, decoding) == expected
    assert model.generation_config is own


def test_repetition_penalty_is_declared_and_works(mistral: Any, prompts: list[list[int]]) -> None:
    strict = answers(mistral, prompts, Decoding(max_new_tokens=12, repetition_penalty=1.5))
    assert strict != answers(mistral, prompts)


def test_sampling_is_decided_by_the_seed_alone(mistral: Any, prompts: list[list[int]]) -> None:
    import torch

    torch.manual_seed(1)
    first = answers(mistral, prompts, SAMPLED, seed=7)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after), "the caller's random state was touched"
    assert answers(mistral, prompts, SAMPLED, seed=7) == first
    assert answers(mistral, prompts, SAMPLED, seed=8) != first


def test_under_peft(mistral: Any, adapter: Any, prompts: list[list[int]]) -> None:
    base = answers(mistral, prompts)
    on = answers(adapter, prompts)
    assert on != base
    assert list(on[0].token_ids) == greedy_by_hand(adapter, prompts[0], 12)
    with adapter.disable_adapter():
        assert answers(adapter, prompts) == base
    assert "generation_config" not in adapter.__dict__


def test_no_warning_is_given(mistral: Any, prompts: list[list[int]]) -> None:
    caught: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: caught.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answers(mistral, prompts[:3])
            answers(mistral, prompts[:3], SAMPLED)
    finally:
        logger.removeHandler(handler)
    assert caught == []


def test_out_of_memory_means_smaller_batches(
    mistral: Any, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    expected = answers(mistral, prompts)
    real, sizes = generation._generate, []

    def scarce(model: Any, rows: Any, settings: Any, pad: int) -> list[list[int]]:
        sizes.append(len(rows))
        if len(rows) > 7:
            raise torch.OutOfMemoryError
        return real(model, rows, settings, pad)

    monkeypatch.setattr(generation, "_generate", scarce)
    assert answers(mistral, prompts) == expected
    assert sizes == [24, 12, 6, 6, 12, 6, 6]


def test_an_empty_prompt_is_refused(mistral: Any) -> None:
    with pytest.raises(EvaluationError, match="prompt 1 is empty"):
        answers(mistral, [[1], []])


def test_no_stop_token_is_refused(mistral: Any) -> None:
    with pytest.raises(EvaluationError, match="there is no stop token"):
        answers(mistral, [[1]], stops=())


def test_progress_counts_to_the_end(
    mistral: Any, prompts: list[list[int]], progress: tuple[list[int], Callable[[int], None]]
) -> None:
    seen, report = progress
    answers(mistral, prompts, batch_tokens=200, on_progress=report)
    assert seen == sorted(seen)
    assert seen[-1] == len(prompts)


# Where an answer begins


class Words:
    """A tokenizer whose ids are places in a list of words; those in angle brackets are special."""

    words = (
        *("<stop>", "<channel>", "final", "<message>", "think", "</think>", " hello", "\n\n"),
        *(" world", "</think> hello"),
    )

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        special = {0, 1, 3}
        return "".join(self.words[i] for i in ids if not (skip_special_tokens and i in special))


@pytest.mark.parametrize(
    ("marker", "ids", "text"),
    [
        ("", [4, 5, 7, 6, 0], "think</think>\n\n hello"),
        ("</think>", [4, 5, 7, 6, 8, 0], "hello world"),
        ("</think>", [4, 5, 6, 5, 8, 0], "world"),
        ("</think>", [6, 8, 0], " hello world"),
        ("</think>", [4, 9, 8, 0], "hello world"),
        ("</think>", [4, 5, 0], ""),
        ("<channel>final<message>", [1, 4, 3, 4, 1, 2, 3, 6, 8, 0], "hello world"),
        ("<channel>final<message>", [1, 2, 3, 0], ""),
    ],
)
def test_an_answer_begins_after_the_last_marker(marker: str, ids: list[int], text: str) -> None:
    tokenizer: Any = Words()
    answer = generation._answer(tokenizer, ids, frozenset({0}), marker)
    assert answer == Answer(text=text, token_ids=tuple(ids), finished=True)
