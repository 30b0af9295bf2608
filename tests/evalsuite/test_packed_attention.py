"""Examples end to end in one row: every decoder family gives the losses of padded batches."""

from __future__ import annotations

from typing import Any

import pytest

from evalsuite.attention_kernels import Heads, varlen_takes
from evalsuite.examples import Example
from evalsuite.loss import score_examples
from evalsuite.packed_attention import (
    NAME,
    UnpackableError,
    _registered,
    attending,
    why_not_packed,
)
from evalsuite.supervised_logits import packed_batches

from .conftest import PAD, VOCABULARY

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS_OF_8 = {"Qwen3", "Gemma", "Gemma2", "Gemma3Text"}
# Windows are shorter than many of the examples; the last layers of Qwen and Gemma slide.
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 20},
    "Qwen2": {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
    "Qwen3": {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
    "Phi3": {"sliding_window": 20},
    "Gemma": {},
    "Gemma2": {"sliding_window": 20, "attn_logit_softcapping": 1.5},
    "Gemma3Text": {"sliding_window": 20, "sliding_window_pattern": 2},
    "GPTNeoX": {},
    "Granite": {"attention_multiplier": 0.3},
    "Olmo2": {},
}


def family(name: str, **changes: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(5)
    heads = {"head_dim": 8} if name in HEADS_OF_8 else {}
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **heads, **changes})
    causal = "Gemma3ForCausalLM" if name == "Gemma3Text" else f"{name}ForCausalLM"
    return getattr(transformers, causal)(config).eval()


def losses(model: Any, examples: list[Example], *, pack: bool, batch_tokens: int) -> list[float]:
    scored = score_examples(model, examples, pad_token_id=PAD, batch_tokens=batch_tokens, pack=pack)
    return [loss.nll for loss in scored]


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_losses_are_those_of_padded_ones(name: str, examples: list[Example]) -> None:
    model = family(name, **FAMILIES[name])
    assert why_not_packed(model, 120) is None
    alone = losses(model, examples, pack=False, batch_tokens=1)
    for budget in (1, 200, 4096):
        found = losses(model, examples, pack=True, batch_tokens=budget)
        assert found == pytest.approx(alone, rel=1e-5)


def test_it_is_the_packed_attention_that_keeps_examples_apart(
    mistral: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: attention over the whole row. The losses then are other ones."""
    import torch

    def careless(query: Any, key: Any, value: Any, edges: Any, heads: Heads) -> Any:
        del edges
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=heads.scaling, enable_gqa=True
        ).transpose(1, 2)

    alone = losses(mistral, examples, pack=True, batch_tokens=1)
    monkeypatch.setattr("evalsuite.packed_attention.attend_by_example", careless)
    _registered.cache_clear()
    together = losses(mistral, examples, pack=True, batch_tokens=4096)
    _registered.cache_clear()
    worst = max(abs(a - b) / b for a, b in zip(together, alone, strict=True))
    assert worst > 1e-3


def test_under_peft_too(adapter: Any, examples: list[Example]) -> None:
    padded = losses(adapter, examples, pack=False, batch_tokens=4096)
    assert losses(adapter, examples, pack=True, batch_tokens=4096) == pytest.approx(
        padded, rel=1e-5
    )


def test_the_model_is_as_before_afterwards(mistral: Any, examples: list[Example]) -> None:
    before = mistral.config._attn_implementation
    losses(mistral, examples, pack=True, batch_tokens=4096)
    assert mistral.config._attn_implementation == before
    with pytest.raises(KeyError), attending(mistral, "varlen"):
        assert mistral.config._attn_implementation == f"{NAME}_varlen"
        raise KeyError
    assert mistral.config._attn_implementation == before


def test_windows_and_caps_are_part_of_it(examples: list[Example]) -> None:
    """Planted: neither is told to the attention. The losses then are other ones."""
    for name in ("Mistral", "Gemma2"):
        model = family(name, **FAMILIES[name])
        right = losses(model, examples, pack=True, batch_tokens=4096)
        for layer in model.model.layers:
            layer.self_attn.sliding_window = None
            layer.self_attn.attn_logit_softcapping = None
        model.config.sliding_window = None
        without = losses(model, examples, pack=True, batch_tokens=4096)
        assert max(abs(a - b) / b for a, b in zip(without, right, strict=True)) > 1e-3


def test_a_window_that_is_not_told_to_the_attention_is_noticed() -> None:
    model = family("Qwen2", **FAMILIES["Qwen2"])
    model.model.layers[1].self_attn.sliding_window = None
    assert why_not_packed(model, 20) is None  # no example is longer than the window
    assert "window of 20" in (why_not_packed(model, 21) or "")


def test_a_cap_that_is_not_told_to_the_attention_is_noticed() -> None:
    model = family("Gemma2", **FAMILIES["Gemma2"])
    model.model.layers[1].self_attn.attn_logit_softcapping = None
    assert "capped at 1.5" in (why_not_packed(model, 10) or "")


def test_attention_that_looks_ahead_is_noticed() -> None:
    model = family("Llama")
    model.model.layers[0].self_attn.is_causal = False
    assert "after a token" in (why_not_packed(model, 10) or "")


def test_dropout_is_noticed_only_while_training() -> None:
    model = family("Llama", attention_dropout=0.1)
    assert why_not_packed(model, 10) is None
    assert "dropout" in (why_not_packed(model.train(), 10) or "")


def test_a_forward_pass_that_keeps_the_layout_to_itself_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = family("Llama")
    plain = model.forward

    def silent(input_ids: Any, position_ids: Any = None, use_cache: bool = False, **_: Any) -> Any:
        return plain(input_ids, position_ids=position_ids, use_cache=use_cache)

    def strict(input_ids: Any, position_ids: Any = None, use_cache: bool = False) -> Any:
        del input_ids, position_ids, use_cache

    for forward in (silent, strict):
        monkeypatch.setattr(model, "forward", forward)
        assert "where the examples begin" in (why_not_packed(model, 10) or "")


def test_layers_of_another_kind_cannot_be_packed() -> None:
    import transformers

    config = transformers.LlamaConfig(**SMALL)
    config.layer_types = ["full_attention", "linear_attention"]
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))
    model.config = config
    assert "linear_attention" in (why_not_packed(model, 5) or "")


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("GptOss", {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1}, "s_aux"),
        ("Doge", {}, "mask"),
    ],
)
def test_what_a_model_tells_its_attention_beside_is_noticed(
    name: str, changes: dict[str, Any], reason: str, examples: list[Example]
) -> None:
    """Sinks and masks of a model's own would be left out, and its losses others."""
    model = family(name, **changes)
    assert reason in (why_not_packed(model, 10) or "")
    with pytest.raises(UnpackableError):
        losses(model, examples[:3], pack=True, batch_tokens=4096)


def test_a_model_without_positions_is_not_packed(
    mistral: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(input_ids: Any, attention_mask: Any = None, **_: Any) -> Any:
        del input_ids, attention_mask

    monkeypatch.setattr(mistral, "forward", forward)
    assert "positions" in (why_not_packed(mistral, 10) or "")


@pytest.mark.parametrize(
    ("key_width", "value_width", "takes"),
    [(128, 128, True), (256, 256, True), (512, 512, False), (192, 128, False), (12, 12, False)],
)
def test_the_kernel_is_given_only_heads_that_it_takes(
    key_width: int, value_width: int, takes: bool
) -> None:
    import torch

    queries, values = torch.zeros(1, 2, 3, key_width), torch.zeros(1, 2, 3, value_width)
    assert varlen_takes(queries.bfloat16(), values.bfloat16(), Heads()) is takes
    assert not varlen_takes(queries, values, Heads())  # float32
    assert not varlen_takes(queries.bfloat16(), values.bfloat16(), Heads(softcap=50.0))


def test_batches_fill_the_budget_without_padding() -> None:
    lengths = [5, 900, 30, 30, 1, 64, 64]
    batches = packed_batches(lengths, 128)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert batches[0] == [1]  # longer than the budget: by itself
    assert all(sum(lengths[i] for i in batch) <= 128 for batch in batches[1:])
    assert len(batches) == 3
