"""A tiny random Mistral and examples of very different lengths."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from evalsuite.examples import Example
from evalsuite.records import Identity

VOCABULARY = 97
PAD, STOP = 0, 2


@pytest.fixture(scope="session")
def mistral() -> Any:
    """Two layers, random weights large enough that losses differ between examples."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(3)
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    return MistralForCausalLM(config).eval()


@pytest.fixture(scope="session")
def adapter(mistral: Any) -> Any:
    """A LoRA with random (not zero) weights on a copy of `mistral`."""
    import copy

    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(4)
    wrapped = get_peft_model(
        copy.deepcopy(mistral), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return wrapped.eval()


def make_example(index: int, tokens: Sequence[int], prompt: int, tests: str = "") -> Example:
    labels = (-100,) * prompt + tuple(tokens[prompt:])
    return Example(
        example_id=f"example-{index:03d}",
        row=index,
        input_ids=tuple(tokens),
        labels=labels,
        prompt_ids=tuple(tokens[:prompt]),
        prompt=f"prompt {index}",
        answer=f"answer {index}",
        supervised_bytes=3 * (len(tokens) - prompt),
        tests=tests,
    )


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """40 examples of 4 to 120 tokens, so that batches are padded much."""
    chosen = random.Random(5)
    made = []
    for index in range(40):
        length = min(120, 4 + int(chosen.expovariate(1 / 25)))
        tokens = [1, *(chosen.randrange(3, VOCABULARY) for _ in range(length - 1))]
        made.append(make_example(index, tokens, chosen.randint(1, length - 1)))
    return made


@pytest.fixture(scope="session")
def identity() -> Identity:
    return Identity(
        data_digest="d",
        template_digest="t",
        examples_digest="e",
        decoding_digest="g",
        code_version="c",
    )


@pytest.fixture
def progress() -> tuple[list[int], Callable[[int], None]]:
    seen: list[int] = []
    return seen, seen.append
