"""Examples end to end in one row: every decoder family gives the losses of padded batches."""

from __future__ import annotations

from typing import Any

import pytest

from evalsuite.examples import Example
from evalsuite.loss import score_examples
from evalsuite.packed_attention import (
    NAME,
    UnpackableError,
    kernel_takes,
    packed,
    why_not_packed,
)
from evalsuite.supervised_logits import packed_batches

from .conftest import PAD, VOCABULARY

SMALL = {
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
FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Phi3", "Gemma", "Gemma3Text")


def family(name: str, **changes: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(5)
    heads = {"head_dim": 8} if name in {"Qwen3", "Gemma", "Gemma3Text"} else {}
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **heads, **changes})
    causal = "Gemma3ForCausalLM" if name == "Gemma3Text" else f"{name}ForCausalLM"
    return getattr(transformers, causal)(config).eval()


def losses(model: Any, examples: list[Example], *, pack: bool, batch_tokens: int) -> list[float]:
    scored = score_examples(model, examples, pad_token_id=PAD, batch_tokens=batch_tokens, pack=pack)
    return [loss.nll for loss in scored]


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_losses_are_those_of_padded_ones(name: str, examples: list[Example]) -> None:
    model = family(name)
    alone = losses(model, examples, pack=False, batch_tokens=1)
    for budget in (1, 200, 4096):
        found = losses(model, examples, pack=True, batch_tokens=budget)
        assert found == pytest.approx(alone, rel=1e-5)


def test_it_is_the_packed_attention_that_keeps_examples_apart(
    mistral: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: attention over the whole row. The losses then are other ones."""
    import torch

    def careless(query: Any, key: Any, value: Any, layout: Any, scaling: Any) -> Any:
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value, is_causal=True, scale=scaling, enable_gqa=True).transpose(
            1, 2
        )

    alone = losses(mistral, examples, pack=True, batch_tokens=1)
    monkeypatch.setattr("evalsuite.packed_attention._one_by_one", careless)
    together = losses(mistral, examples, pack=True, batch_tokens=4096)
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
    with pytest.raises(KeyError), packed(mistral, [2, 3]):
        assert mistral.config._attn_implementation == NAME
        raise KeyError
    assert mistral.config._attn_implementation == before


@pytest.mark.parametrize(
    ("name", "changes", "longest", "reason"),
    [
        ("Mistral", {"sliding_window": 64}, 64, None),
        ("Mistral", {"sliding_window": 64}, 65, "window of 64"),
        ("Gemma2", {"head_dim": 8, "attn_logit_softcapping": 50.0}, 10, "caps the logits"),
        ("Gemma3Text", {}, 10, None),
        ("Llama", {}, 10_000, None),
    ],
)
def test_who_cannot_be_packed_is_named(
    name: str, changes: dict[str, Any], longest: int, reason: str | None
) -> None:
    found = why_not_packed(family(name, **changes), longest)
    assert found is None if reason is None else reason in (found or "")


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
    assert kernel_takes(queries.bfloat16(), values.bfloat16()) is takes
    assert not kernel_takes(queries, values)  # float32


def test_batches_fill_the_budget_without_padding() -> None:
    lengths = [5, 900, 30, 30, 1, 64, 64]
    batches = packed_batches(lengths, 128)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert batches[0] == [1]  # longer than the budget: by itself
    assert all(sum(lengths[i] for i in batch) <= 128 for batch in batches[1:])
    assert len(batches) == 3
