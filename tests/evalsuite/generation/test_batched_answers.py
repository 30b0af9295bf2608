"""Answers of transformers in batches: as declared, and each as if it were alone."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import EvaluationError
from evalsuite.generation import Answer, batch_decoding, transformers_engine
from evalsuite.records import Decoding
from tests.conftest import ROOT
from tests.evalsuite.conftest import STOP

from .asking import GREEDY, SAMPLED, STOPS, ask, make_prompts

PENALISED = Decoding(max_new_tokens=24, repetition_penalty=1.5)
DECODINGS = {"greedy": GREEDY, "sampled": SAMPLED, "penalised": PENALISED}
# A batch of 24 prompts and 24 new tokens each of at most 65.
BATCH_OF_8 = 8 * 65


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    return make_prompts()


def greedy_by_hand(model: Any, prompt: list[int], count: int) -> list[int]:
    import torch

    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
            if tokens[-1] in STOPS:
                break
    return tokens[len(prompt) :]


def test_greedy_answers_equal_a_plain_loop_without_cache(
    mistral: Any, prompts: list[list[int]]
) -> None:
    found = ask(mistral, prompts)
    for prompt, answer in zip(prompts, found, strict=True):
        assert list(answer.token_ids) == greedy_by_hand(mistral, prompt, 24)
    lengths = [len(answer.token_ids) for answer in found]
    assert min(lengths) < 6 and max(lengths) == 24, "the rows should end at different places"


# The company of a row


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
@pytest.mark.parametrize("stop", [(), ("t8", "t60 t")], ids=["tokens", "strings"])
def test_an_answer_does_not_depend_on_its_batch(
    mistral: Any, prompts: list[list[int]], decoding: Decoding, stop: Sequence[str]
) -> None:
    names = [f"example {place}" for place in range(len(prompts))]
    together = ask(mistral, prompts, decoding, names=names, stop=stop)
    for batch_tokens in (1, BATCH_OF_8, 64 * 65, None):
        again = ask(mistral, prompts, decoding, names=names, stop=stop, batch_tokens=batch_tokens)
        assert again == together
    order = list(range(len(prompts)))
    random.Random(1).shuffle(order)
    for places in (order, sorted(order, key=lambda place: len(prompts[place]))):
        found = ask(
            mistral,
            [prompts[place] for place in places],
            decoding,
            names=[names[place] for place in places],
            stop=stop,
        )
        assert found == [together[place] for place in places]


def test_two_processes_answer_as_one(tiny_model_folder: Path) -> None:
    """Each process answers every other prompt; together they give what one gives."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    halves = [_in_a_process(tiny_model_folder, share) for share in ("0::2", "1::2")]
    prompts, names = make_prompts(12), [str(place) for place in range(12)]
    for decoding, first, second in zip((GREEDY, SAMPLED), *halves, strict=True):
        whole = [list(a.token_ids) for a in ask(model, prompts, decoding, names=names)]
        assert [(first, second)[place % 2][place // 2] for place in range(12)] == whole
        assert len({tuple(answer) for answer in whole}) > 5


def _in_a_process(folder: Path, share: str) -> list[list[list[int]]]:
    """Tokens of greedy and of drawn answers, made by a process of its own."""
    program = f"""
import json
from transformers import AutoModelForCausalLM
from tests.evalsuite.generation.asking import GREEDY, SAMPLED, ask, make_prompts
model = AutoModelForCausalLM.from_pretrained({str(folder)!r}).eval()
places = list(range(12))[{share}]
prompts = [make_prompts(12)[place] for place in places]
names = [str(place) for place in places]
made = [ask(model, prompts, decoding, names=names) for decoding in (GREEDY, SAMPLED)]
print(json.dumps([[answer.token_ids for answer in answers] for answers in made]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: list[list[list[int]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("selects", [True, False], ids=["kept cache", "new cache"])
def test_rows_that_have_finished_leave_the_batch(
    mistral: Any, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch, *, selects: bool
) -> None:
    expected = [ask(mistral, [prompt])[0] for prompt in prompts]
    sizes: list[int] = []
    real = batch_decoding._continue

    def counted(model: Any, rows: Any, *others: Any, **more: Any) -> Any:
        sizes.append(len(rows.places))
        return real(model, rows, *others, **more)

    monkeypatch.setattr(batch_decoding, "_continue", counted)
    if not selects:
        monkeypatch.setattr(batch_decoding, "_only", lambda cache, kept: None)
    assert ask(mistral, prompts) == expected
    assert sizes[0] == 24 and len(sizes) > 1
    assert all(after <= before // 2 for before, after in itertools.pairwise(sizes))


# How an answer ends


def test_an_answer_ends_with_its_stop_token(mistral: Any, prompts: list[list[int]]) -> None:
    free = ask(mistral, prompts, stops=(STOP,))
    stop = free[0].token_ids[3]
    stopped = ask(mistral, prompts, stops=(STOP, stop))
    first = stopped[0]
    assert first.finished
    assert first.token_ids[-1] == stop
    assert first.token_ids == free[0].token_ids[: len(first.token_ids)]
    for answer in stopped:
        assert answer.finished == (answer.token_ids[-1] in (STOP, stop))
        assert answer.finished or len(answer.token_ids) == 24
        assert not set(answer.token_ids[:-1]) & {STOP, stop}


def test_an_answer_ends_before_its_stop_string(mistral: Any, prompts: list[list[int]]) -> None:
    free = ask(mistral, prompts, stops=(STOP,))
    words = free[0].text.split()
    stop = " ".join(words[4:6])
    stopped = ask(mistral, prompts, stops=(STOP,), stop=(stop, "not written"))
    first, before = stopped[0], free[0].text.partition(stop)[0]
    assert first == Answer(text=before, token_ids=free[0].token_ids[:6], finished=True)
    for one, other in zip(free, stopped, strict=True):
        text, found, _ = one.text.partition(stop)
        assert other.text == text
        assert len(other.token_ids) == len(one.token_ids) if not found else True
    short = sum(len(answer.token_ids) for answer in stopped)
    assert short < sum(len(answer.token_ids) for answer in free), "nobody stopped"


def test_special_tokens_are_not_in_the_text(mistral: Any, prompts: list[list[int]]) -> None:
    for answer in ask(mistral, prompts, stops=tuple(range(3, 40))):
        assert answer.text == " ".join(f"t{i}" for i in answer.token_ids if i > 2)


# Only what is declared


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_checkpoints_own_settings_have_no_say(
    mistral: Any, prompts: list[list[int]], decoding: Decoding
) -> None:
    from transformers import GenerationConfig

    expected = ask(mistral, prompts, decoding)
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
        eos_token_id=40,
        stop_strings=["t1"],
    )
    model.generation_config = own
    assert ask(model, prompts, decoding) == expected
    assert model.generation_config is own


def test_repetition_penalty_is_declared_and_works(mistral: Any, prompts: list[list[int]]) -> None:
    assert ask(mistral, prompts, PENALISED) != ask(mistral, prompts)


def test_padding_is_not_penalised_as_a_repetition(mistral: Any) -> None:
    """transformers' own penalty counts the padding token where a row is padded."""
    import torch

    model = copy.deepcopy(mistral)
    # A model that would write the padding token for ever, if nothing made it less likely.
    model.lm_head = torch.nn.Linear(32, 97)
    torch.nn.init.zeros_(model.lm_head.weight)
    with torch.no_grad():
        model.lm_head.bias.zero_()
        model.lm_head.bias[0], model.lm_head.bias[50] = 1.0, 0.9
    first = Decoding(max_new_tokens=1, repetition_penalty=1.5)
    short, long = [1, 20], [1, *range(20, 40)]
    assert [a.token_ids for a in ask(model, [short, long], first)] == [(0,), (0,)]


def test_no_warning_is_given(mistral: Any, prompts: list[list[int]]) -> None:
    caught: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: caught.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ask(mistral, prompts)
            ask(mistral, prompts, SAMPLED, stop=("t8",))
    finally:
        logger.removeHandler(handler)
    assert caught == []


# Memory


def test_out_of_memory_means_smaller_batches_from_then_on(
    mistral: Any, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    expected = ask(mistral, prompts)
    real = transformers_engine.decode_batch
    sizes: list[int] = []

    def scarce(model: Any, requests: Any, *others: Any) -> list[list[int]]:
        sizes.append(len(requests))
        if len(requests) > 7:
            raise torch.OutOfMemoryError
        return real(model, requests, *others)

    monkeypatch.setattr(transformers_engine, "decode_batch", scarce)
    assert ask(mistral, prompts) == expected
    # Later batches have shorter rows, so more of them fit into the same number of tokens.
    assert sizes[:3] == [24, 12, 6]
    assert sum(size > 7 for size in sizes) <= 4, sizes


def test_a_batch_on_a_cpu_is_bounded(mistral: Any) -> None:
    assert transformers_engine.memory_tokens(mistral) == 16_384
    # Two layers of two heads of 8 numbers, keys and values, in float32.
    assert transformers_engine.cache_bytes_per_token(mistral) == 2 * 2 * 2 * 8 * 4


# Refusals and progress


def test_an_empty_prompt_is_refused(mistral: Any) -> None:
    with pytest.raises(EvaluationError, match="prompt 1 is empty"):
        ask(mistral, [[1], []])


def test_no_stop_token_is_refused(mistral: Any) -> None:
    with pytest.raises(EvaluationError, match="there is no stop token"):
        ask(mistral, [[1]], stops=())


def test_one_name_for_two_prompts_is_refused(mistral: Any) -> None:
    with pytest.raises(EvaluationError, match="answer 0 to example a is asked for twice"):
        ask(mistral, [[1], [1, 3]], names=["a", "a"])


def test_progress_counts_to_the_end(
    mistral: Any, prompts: list[list[int]], progress: tuple[list[int], Callable[[int], None]]
) -> None:
    seen, report = progress
    ask(mistral, prompts, batch_tokens=200, on_progress=report)
    assert seen == sorted(seen) and len(seen) > 3
    assert seen[-1] == len(prompts)
