"""The adapter merged for decoding: the same answers, and the very same weights afterwards."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from evalsuite.generation import TransformersEngine, batch_decoding
from evalsuite.generation.merged_adapter import merged_adapter, why_not_merged

from .asking import ask, make_prompts


def weights(model: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_bits(model: Any, before: dict[str, Any]) -> None:
    import torch

    after = model.state_dict()
    assert after.keys() == before.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_answers_are_those_of_the_adapter_unmerged(
    mistral: Any, adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = make_prompts()
    before = weights(adapter)
    merged = ask(adapter, prompts)
    assert_same_bits(adapter, before)
    assert merged != ask(mistral, prompts)
    seen: list[str | None] = []
    real = batch_decoding.decode_batch

    def unmerged(model: Any, *others: Any) -> Any:
        seen.append(why_not_merged(model))
        model.unmerge_adapter()
        return real(model, *others)

    monkeypatch.setattr("evalsuite.generation.transformers_engine.decode_batch", unmerged)
    assert ask(adapter, prompts) == merged
    assert seen == ["the adapter is switched off or merged already"], "it was not merged"


def test_under_peft(mistral: Any, adapter: Any) -> None:
    prompts = make_prompts()
    base = ask(mistral, prompts)
    assert ask(adapter, prompts) != base
    with adapter.disable_adapter():
        assert why_not_merged(adapter) == "the adapter is switched off or merged already"
        assert ask(adapter, prompts) == base
    assert "generation_config" not in adapter.__dict__


def test_an_interruption_restores_the_weights(adapter: Any) -> None:
    before = weights(adapter)
    with pytest.raises(KeyboardInterrupt), merged_adapter(adapter):
        assert weights(adapter).keys() == before.keys()
        with pytest.raises(AssertionError):
            assert_same_bits(adapter, before)
        raise KeyboardInterrupt
    assert_same_bits(adapter, before)
    assert why_not_merged(adapter) is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_merged_and_restored_bit_by_bit(adapter: Any, dtype: str) -> None:
    """peft's own unmerging would leave other bits."""
    import torch

    half = copy.deepcopy(adapter).to(getattr(torch, dtype))
    before = weights(half)
    with merged_adapter(half) as reason:
        assert reason is None
    assert_same_bits(half, before)
    half.merge_adapter()
    half.unmerge_adapter()
    with pytest.raises(AssertionError):
        assert_same_bits(half, before)


def test_dora_is_merged(mistral: Any) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(4)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], use_dora=True)
    model = get_peft_model(copy.deepcopy(mistral), config).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    prompts, before = make_prompts(), weights(model)
    tokens = torch.tensor([prompts[0]])
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
        with merged_adapter(model) as reason:
            assert reason is None
            found = model(input_ids=tokens).logits
    assert torch.allclose(found, expected, atol=1e-4)
    assert_same_bits(model, before)
    assert ask(model, prompts) != ask(mistral, prompts)


def test_another_kind_of_adapter_is_not_merged(mistral: Any) -> None:
    from peft import IA3Config, get_peft_model

    config = IA3Config(target_modules=["q_proj"], feedforward_modules=[])
    model = get_peft_model(copy.deepcopy(mistral), config).eval()
    assert why_not_merged(model) == "the adapter is no LoRA"


def test_a_bias_that_merging_touches_is_restored(mistral: Any) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    base = copy.deepcopy(mistral)
    for layer in base.model.layers:
        layer.mlp.up_proj = torch.nn.Linear(32, 48)
    config = LoraConfig(r=4, target_modules=["up_proj"], lora_bias=True)
    model = get_peft_model(base, config).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    before = weights(model)
    with merged_adapter(model) as reason:
        assert reason is None
        bias = model.base_model.model.model.layers[0].mlp.up_proj.base_layer.bias
        assert not torch.equal(
            bias, before["base_model.model.model.layers.0.mlp.up_proj.base_layer.bias"]
        )
    assert_same_bits(model, before)


def test_a_tied_weight_is_not_merged(mistral: Any) -> None:
    """The tiny model's head is its embedding: merging one would change the other."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["lm_head"])
    model: Any = get_peft_model(copy.deepcopy(mistral), config).eval()
    assert why_not_merged(model) == "a weight with an adapter is tied to another module's"
    note = TransformersEngine(model=model, tokenizer=None).note()  # type: ignore[arg-type]
    assert note == "adapter not merged: a weight with an adapter is tied to another module's"


def test_quantized_weights_are_not_merged(adapter: Any) -> None:
    import torch

    model = copy.deepcopy(adapter)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj

    class Packed(torch.nn.Linear):
        """A layer class of a quantization library, whose weight is not what it multiplies by."""

    layer.base_layer.__class__ = Packed
    assert why_not_merged(model) == "the base model's weights are quantized"


def test_a_bare_model_has_nothing_to_merge(mistral: Any) -> None:
    assert why_not_merged(mistral) == "there is no adapter"
    assert TransformersEngine(model=mistral, tokenizer=None).note() is None  # type: ignore[arg-type]


@pytest.mark.parametrize("tied", [True, False])
def test_trained_tokens_are_merged_with_the_rest(mistral: Any, tied: bool) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    base = copy.deepcopy(mistral)
    if not tied:
        base.config.tie_word_embeddings = False
        base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.clone())
    ends = ["model.embed_tokens"] if tied else ["model.embed_tokens", "lm_head"]
    config = LoraConfig(
        r=4,
        target_modules=["q_proj"],
        trainable_token_indices={end: [5, 9] for end in ends},
        modules_to_save=["model.norm"],
    )
    torch.manual_seed(4)
    model: Any = get_peft_model(base, config).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name or "trainable_tokens_delta" in name:
            torch.nn.init.normal_(weight, std=0.3)
    before = weights(model)
    tokens = torch.tensor([[5, 4, 9, 3]])
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
        with merged_adapter(model) as reason:
            assert reason is None
            embedding = model.get_base_model().get_input_embeddings()
            assert not torch.equal(embedding.original_module.weight, mistral.lm_head.weight)
            found = model(input_ids=tokens).logits
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(expected, mistral(input_ids=tokens).logits, atol=1e-2)
        assert torch.equal(model(input_ids=tokens).logits, expected)
    assert_same_bits(model, before)
