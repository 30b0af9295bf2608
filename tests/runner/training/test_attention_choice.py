"""Packed or padded, and by which kernel: what the recipe asks for, the model allows, is faster."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evalsuite.packed_attention import KernelChoice
from runner.errors import UsageError
from runner.training.attention_choice import choose_attention


@pytest.fixture(scope="module")
def mistral(tiny_model_folder: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny_model_folder), dtype=torch.float32).eval()


@pytest.fixture
def sinks() -> Any:
    from transformers import GptOssConfig, GptOssForCausalLM

    return GptOssForCausalLM(
        GptOssConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            num_local_experts=2,
            num_experts_per_tok=1,
            pad_token_id=0,
        )
    )


@pytest.mark.parametrize("wanted", ["auto", "packed"])
def test_packed_wherever_it_can_be(mistral: Any, wanted: str) -> None:
    found = choose_attention(wanted, mistral, longest=300, device="cpu")
    assert (found.layout, found.kernel) == ("packed", "by_example")
    assert found.reason == "attention: packed, each example by itself"
    assert not mistral.training


def test_padded_where_the_recipe_says_so(mistral: Any) -> None:
    found = choose_attention("padded", mistral, longest=300, device="cpu")
    assert (found.layout, found.reason) == ("padded", "attention: padded, as the recipe says")


def test_what_stands_against_it_is_named(sinks: Any) -> None:
    found = choose_attention("auto", sinks, longest=30, device="cpu")
    assert found.layout == "padded"
    assert "s_aux" in found.reason
    with pytest.raises(UsageError, match=r"hardware\.attention: .*s_aux.*Write padded, or auto"):
        choose_attention("packed", sinks, longest=30, device="cpu")


def test_dropout_in_the_attention_is_seen_though_the_model_is_not_training_yet(
    mistral: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layer in mistral.model.layers:
        monkeypatch.setattr(layer.self_attn, "attention_dropout", 0.1)
    found = choose_attention("auto", mistral, longest=30, device="cpu")
    assert found.layout == "padded"
    assert "dropout" in found.reason


@pytest.mark.parametrize(
    ("kernel", "wanted", "layout"),
    [
        ("varlen", "auto", "packed"),
        ("by_example", "auto", "padded"),
        ("by_example", "packed", "packed"),
    ],
)
def test_on_a_gpu_packed_is_for_kernels_unless_it_is_asked_for(
    mistral: Any, monkeypatch: pytest.MonkeyPatch, kernel: Any, wanted: str, layout: str
) -> None:
    def chosen(*_: Any, **__: Any) -> KernelChoice:
        return KernelChoice(kernel=kernel, reason="the reason")

    monkeypatch.setattr("runner.training.attention_choice.choose_kernel", chosen)
    found = choose_attention(wanted, mistral, longest=30, device="cuda")
    assert found.layout == layout
    assert "the reason" in found.reason


def test_looking_uses_up_no_random_numbers(mistral: Any) -> None:
    """Dropout of an adapter, drawn on the way, must not change the run."""
    import copy

    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(copy.deepcopy(mistral), LoraConfig(r=2, lora_dropout=0.5))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    choose_attention("auto", adapted, longest=30, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_where_bytes_must_repeat_nothing_is_measured(
    mistral: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def chosen(*_: Any, measure: bool, **__: Any) -> KernelChoice:
        asked.append(measure)
        return KernelChoice(kernel="varlen", reason="")

    monkeypatch.setattr("runner.training.attention_choice.choose_kernel", chosen)
    choose_attention("auto", mistral, longest=30, device="cuda")
    torch.use_deterministic_algorithms(True)
    try:
        choose_attention("auto", mistral, longest=30, device="cuda")
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [True, False]
