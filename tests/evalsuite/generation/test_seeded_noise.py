"""What is drawn: by the declared probabilities, and by nothing but its own name."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy import stats

from evalsuite.generation import Request
from evalsuite.generation.seeded_noise import gumbel_noise
from evalsuite.generation.token_choice import score_processors
from evalsuite.records import Decoding

from .asking import SAMPLED, ask, make_prompts

MASK = 2**64 - 1


def key(example: str, number: int = 0, seed: int = 1) -> int:
    return Request(example_id=example, prompt_ids=(1,), number=number).draw_key(seed)


def split_mix(state: int, place: int) -> int:
    """The ``place``-th number of SplitMix64 from ``state``, in integers without a bound."""
    mixed = (state + place * 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def test_the_generator_is_splitmix64() -> None:
    # The first numbers of the reference implementation from the state 1234567.
    assert [split_mix(1234567, place) for place in (1, 2)] == [
        6457827717110365317,
        3203168211198807973,
    ]


def test_noise_is_that_of_the_definition() -> None:
    import torch

    keys = [key("a"), key("b"), -1, 0, 2**63 - 1]
    noise = gumbel_noise(torch.tensor(keys), 6, 50)
    for row, given in enumerate(keys):
        state = split_mix(given & MASK, 7)
        for token in range(50):
            uniform = ((split_mix(state, token + 1) >> 12) + 0.5) / 2**52
            expected = -math.log(-math.log(uniform))
            assert noise[row, token].item() == pytest.approx(expected, rel=1e-12)


def test_noise_is_gumbels_and_independent() -> None:
    import torch

    keys = torch.tensor([key(str(n)) for n in range(400)])
    noise = [gumbel_noise(keys, step, 300).numpy() for step in range(2)]
    assert stats.kstest(noise[0].ravel(), "gumbel_r").pvalue > 0.01
    for first, second in (
        (noise[0], noise[1]),  # one step and the next
        (noise[0][:-1], noise[0][1:]),  # one row and the next
        (noise[0][:, :-1], noise[0][:, 1:]),  # one token and the next
    ):
        assert stats.pearsonr(first.ravel(), second.ravel()).pvalue > 0.01


def test_a_key_is_that_of_seed_example_and_number() -> None:
    names = [(s, e, n) for s in range(3) for e in ("a", "b", "1\na", "0\na") for n in range(3)]
    keys = {key(example, number, seed) for seed, example, number in names}
    assert len(keys) == len(names)
    assert all(-(2**63) <= found < 2**63 for found in keys)
    assert key("example-007", 3, 42) == 6548400749662381562, "stored answers would be others"


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(max_new_tokens=1, do_sample=True),
        Decoding(max_new_tokens=1, do_sample=True, temperature=0.7),
        Decoding(max_new_tokens=1, do_sample=True, top_k=5),
        Decoding(max_new_tokens=1, do_sample=True, temperature=1.5, top_p=0.8),
    ],
    ids=["plain", "temperature", "top_k", "top_p"],
)
def test_tokens_are_drawn_by_their_probabilities(mistral: Any, decoding: Decoding) -> None:
    import torch

    prompt = make_prompts(1)[0]
    draws = 6000
    found = ask(
        mistral, [prompt] * draws, decoding, names=[f"draw {n}" for n in range(draws)], seed=3,
        batch_tokens=100_000,
    )  # fmt: skip
    counts = torch.bincount(torch.tensor([a.token_ids[0] for a in found]), minlength=97)
    with torch.no_grad():
        logits = mistral(input_ids=torch.tensor([prompt])).logits[:, -1]
    wanted = _probabilities(logits, decoding) * draws
    assert counts[wanted == 0].sum() == 0
    # Rare tokens are counted together: chi-square needs five expected ones in each cell.
    common = wanted >= 5
    seen = [*counts[common].tolist(), int(counts[~common].sum())]
    expected = [*wanted[common].tolist(), float(wanted[~common].sum())]
    cells = [(s, e) for s, e in zip(seen, expected, strict=True) if e > 0]
    assert len(cells) >= 4
    statistic = sum((s - e) ** 2 / e for s, e in cells)
    assert stats.chi2.sf(statistic, len(cells) - 1) > 0.001, cells


def _probabilities(logits: Any, decoding: Decoding) -> Any:
    """What transformers' own warpers leave, without any noise."""
    import torch

    processors = score_processors(decoding, torch.tensor([0]), torch.ones(1, 1))[:-1]
    for processor in processors:
        logits = processor(torch.tensor([[1]]), logits)
    return logits[0].double().softmax(-1)


def test_sampling_is_decided_by_the_seed_and_the_name_alone(mistral: Any) -> None:
    import torch

    prompts = make_prompts()
    torch.manual_seed(1)
    first = ask(mistral, prompts, SAMPLED, seed=7)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after), "the caller's random state was touched"
    assert ask(mistral, prompts, SAMPLED, seed=7) == first
    assert ask(mistral, prompts, SAMPLED, seed=8) != first
    others = [f"other {place}" for place in range(len(prompts))]
    assert ask(mistral, prompts, SAMPLED, seed=7, names=others) != first


def test_answers_to_one_prompt_are_drawn_each_for_itself(mistral: Any) -> None:
    from evalsuite.generation import AnswerLog, AnswerSettings, TransformersEngine, answer_all

    from .asking import STOPS, Tokenizer

    engine: Any = TransformersEngine(model=mistral, tokenizer=Tokenizer())  # type: ignore[arg-type]
    settings = AnswerSettings(decoding=SAMPLED, stop_token_ids=STOPS, pad_token_id=0, seed=7)
    prompt = tuple(make_prompts(1)[0])
    several = [Request(example_id="a", prompt_ids=prompt, number=n) for n in range(20)]
    answers = answer_all(engine, several, settings, log=AnswerLog())
    assert len({answer.token_ids for answer in answers}) > 10
    third = answer_all(engine, several[2:3], settings, log=AnswerLog())
    assert third == answers[2:3]


def test_two_models_are_drawn_with_the_same_luck(mistral: Any, adapter: Any) -> None:
    """Common random numbers: answers of like models agree more than those of two seeds."""
    prompts = make_prompts()
    free = Decoding(max_new_tokens=1, do_sample=True)
    seen = [
        [answer.token_ids for answer in ask(model, prompts * 10, free, seed=seed)]
        for model, seed in ((mistral, 1), (adapter, 1), (adapter, 2))
    ]
    same_luck, other_luck = (
        sum(a == b for a, b in zip(seen[0], other, strict=True)) for other in seen[1:]
    )
    assert same_luck > 1.5 * other_luck
