"""KL of an adapter from its base, measured in the pass that measures the loss."""

from __future__ import annotations

from typing import Any

import pytest

from evalsuite.errors import EvaluationError
from evalsuite.examples import Example
from evalsuite.loss import score_examples

from .conftest import PAD
from .test_packed_attention import family


def kls(model: Any, examples: list[Example], **options: Any) -> list[float | None]:
    scored = score_examples(model, examples, pad_token_id=PAD, batch_tokens=512, **options)
    return [loss.kl for loss in scored]


def reference(model: Any, example: Example) -> float:
    """The divergence in float64, by its definition, one example at a time."""
    import torch
    from torch.nn.functional import log_softmax

    tokens = torch.tensor([example.input_ids])
    with torch.no_grad():
        after = log_softmax(model(input_ids=tokens).logits[0].double(), dim=-1)
        with model.disable_adapter():
            before = log_softmax(model(input_ids=tokens).logits[0].double(), dim=-1)
    places = [p - 1 for p in range(1, len(example.labels)) if example.labels[p] != -100]
    return sum(float((before[p].exp() * (before[p] - after[p])).sum()) for p in places)


@pytest.mark.parametrize("pack", [False, True])
def test_equal_to_its_definition(adapter: Any, examples: list[Example], pack: bool) -> None:
    found = kls(adapter, examples[:8], divergence=True, pack=pack)
    expected = [reference(adapter, example) for example in examples[:8]]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert min(expected) > 1e-3  # the adapter does something


def test_of_the_base_itself_it_is_nothing(mistral: Any, examples: list[Example]) -> None:
    assert kls(mistral, examples[:3], divergence=True) == [0.0, 0.0, 0.0]


def test_it_is_measured_only_where_it_is_asked_for(adapter: Any, examples: list[Example]) -> None:
    assert kls(adapter, examples[:2]) == [None, None]


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_cannot_be_switched_off(examples: list[Example], bias: Any) -> None:
    """Planted: with other biases alone the adapter is another model, and was 0 from its base."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], bias=bias)
    model = get_peft_model(family("Qwen2"), config)
    before = score_examples(model, examples[:2], pad_token_id=PAD, batch_tokens=64)
    for name, parameter in model.named_parameters():
        if name.endswith("v_proj.base_layer.bias"):
            torch.nn.init.normal_(parameter)
    after = score_examples(model, examples[:2], pad_token_id=PAD, batch_tokens=64)
    assert before[0].nll != pytest.approx(after[0].nll, rel=1e-3)
    with pytest.raises(EvaluationError, match=f"bias: {bias}.*cannot be switched off"):
        kls(model, examples[:2], divergence=True)


def test_one_that_is_not_finite_names_the_example(
    adapter: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def endless(_model: Any, _batch: Any, logits: Any) -> Any:
        return torch.full((len(logits),), torch.inf, dtype=torch.float64)

    monkeypatch.setattr("evalsuite.loss._divergences", endless)
    with pytest.raises(EvaluationError, match=r"divergence .* of example example-000 .* is inf"):
        kls(adapter, examples[:1], divergence=True)


def test_the_adapter_is_on_again_afterwards(adapter: Any, examples: list[Example]) -> None:
    first = score_examples(adapter, examples[:4], pad_token_id=PAD, batch_tokens=64)
    second = score_examples(
        adapter, examples[:4], pad_token_id=PAD, batch_tokens=64, divergence=True
    )
    assert [x.nll for x in second] == [x.nll for x in first]
