from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evalsuite.errors import EvaluationError
from evalsuite.examples import Example
from evalsuite.loss import ExampleLoss, score_examples

from .conftest import PAD, VOCABULARY, make_example


def score(model: Any, examples: list[Example], batch_tokens: int = 4096) -> list[ExampleLoss]:
    return score_examples(model, examples, pad_token_id=PAD, batch_tokens=batch_tokens)


def reference(model: Any, example: Example) -> tuple[float, int]:
    """Loss and hits in float64, one example at a time, by the textbook."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([example.input_ids])).logits[0]
    nll, hits = 0.0, 0
    for place in range(1, len(example.input_ids)):
        if example.labels[place] != -100:
            row = logits[place - 1]
            nll -= float(torch.log_softmax(row, dim=-1)[example.labels[place]])
            hits += int(int(row.argmax()) == example.labels[place])
    return nll, hits


def whole(losses: list[ExampleLoss]) -> float:
    return sum(loss.nll for loss in losses) / sum(loss.tokens for loss in losses)


def test_equal_to_a_float64_reference(mistral: Any, examples: list[Example]) -> None:
    exact = copy.deepcopy(mistral).double()
    for example, loss in zip(examples, score(mistral, examples), strict=True):
        nll, hits = reference(exact, example)
        assert loss.nll == pytest.approx(nll, rel=1e-5)
        assert loss.correct == hits
        assert loss.tokens == sum(label != -100 for label in example.labels)
        assert (loss.example_id, loss.row) == (example.example_id, example.row)
        assert loss.bytes == example.supervised_bytes


def test_the_same_at_every_batch_and_order(mistral: Any, examples: list[Example]) -> None:
    longest = max(len(example.input_ids) for example in examples)
    alone = score(mistral, examples, batch_tokens=1)
    shuffled = random.Random(0).sample(examples, len(examples))
    for losses in (
        score(mistral, examples, batch_tokens=8 * longest),
        score(mistral, examples, batch_tokens=64 * longest),
        sorted(score(mistral, shuffled, 8 * longest), key=lambda loss: loss.row),
    ):
        assert [x.nll for x in losses] == pytest.approx([x.nll for x in alone], rel=1e-5)
        assert [x.correct for x in losses] == [x.correct for x in alone]


def test_a_mean_of_batch_means_is_another_number(mistral: Any) -> None:
    """transformers#39241: what `Trainer` reports depends on the batch; ours does not."""
    chosen = random.Random(1)
    short = [make_example(i, [1, 5, 5, 5], 3) for i in range(8)]
    tokens = [[1, *(chosen.randrange(3, VOCABULARY) for _ in range(79))] for _ in range(8)]
    long = [make_example(8 + i, row, 2) for i, row in enumerate(tokens)]
    losses = score(mistral, short + long)
    batch_means = [whole(losses[start : start + 8]) for start in (0, 8)]
    assert abs(sum(batch_means) / 2 - whole(losses)) > 0.1
    assert whole(losses) == pytest.approx(whole(score(mistral, long + short, 1)), rel=1e-6)


def test_under_peft_with_the_adapter_on_and_off(
    mistral: Any, adapter: Any, examples: list[Example]
) -> None:
    base = score(mistral, examples)
    on = score(adapter, examples)
    with adapter.disable_adapter():
        off = score(adapter, examples)
    assert [x.nll for x in off] == pytest.approx([x.nll for x in base], rel=1e-6)
    assert all(abs(x.nll - y.nll) > 1e-4 for x, y in zip(on, base, strict=True))
    assert on[0].nll == pytest.approx(reference(adapter, examples[0])[0], rel=1e-5)


def test_what_a_model_does_after_its_head_is_kept(examples: list[Example]) -> None:
    """Cohere scales its logits after the head; a loss by hidden states times head misses that."""
    import torch
    from transformers import CohereConfig, CohereForCausalLM

    torch.manual_seed(0)
    model = CohereForCausalLM(
        CohereConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
            num_attention_heads=4, num_key_value_heads=4, logit_scale=3.0, initializer_range=0.2,
            pad_token_id=PAD, bos_token_id=1, eos_token_id=2,
        )
    ).eval()  # fmt: skip
    loss = score(model, examples[:3])
    for example, scored in zip(examples[:3], loss, strict=True):
        assert scored.nll == pytest.approx(reference(model, example)[0], rel=1e-5)


def test_the_head_runs_at_supervised_positions_only(mistral: Any, examples: list[Example]) -> None:
    seen: list[int] = []
    hook = mistral.lm_head.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    losses = score(mistral, examples)
    hook.remove()
    assert sum(seen) == sum(loss.tokens for loss in losses)


def test_a_model_without_a_head_module(
    mistral: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score(mistral, examples)
    monkeypatch.setattr(type(mistral), "get_output_embeddings", lambda _: None)
    found = score(mistral, examples)
    assert [x.nll for x in found] == pytest.approx([x.nll for x in expected], rel=1e-6)


def test_training_mode_comes_back_and_no_gradient_is_kept(
    mistral: Any, examples: list[Example]
) -> None:
    model = copy.deepcopy(mistral).train()
    model.model.layers[0].eval()
    score(model, examples)
    assert model.training and model.model.layers[1].training
    assert not model.model.layers[0].training
    assert all(weight.grad is None for weight in model.parameters())


def test_a_loss_that_is_not_finite_names_the_example(mistral: Any, examples: list[Example]) -> None:
    import torch

    model = copy.deepcopy(mistral)
    unique = VOCABULARY - 1
    spoiled = make_example(77, [1, unique, 5, 6], 1)
    clean = [e for e in examples if unique not in e.input_ids]
    model.get_input_embeddings().weight = torch.nn.Parameter(
        model.get_input_embeddings().weight.clone()
    )
    model.get_input_embeddings().weight.data[unique] = math.nan
    with pytest.raises(EvaluationError, match=r"example-077 \(row 77\) is nan"):
        score(model, [*clean, spoiled])


def test_an_example_without_a_supervised_token(mistral: Any, examples: list[Example]) -> None:
    nothing = replace(examples[0], labels=(-100,) * len(examples[0].input_ids))
    with pytest.raises(EvaluationError, match=r"example-000 \(row 0\) has no supervised token"):
        score(mistral, [nothing])


def test_progress_counts_to_the_end(
    mistral: Any, examples: list[Example], progress: tuple[list[int], Callable[[int], None]]
) -> None:
    seen, report = progress
    score_examples(mistral, examples, pad_token_id=PAD, batch_tokens=400, on_progress=report)
    assert seen == sorted(seen)
    assert seen[-1] == len(examples)
    assert len(seen) > 3
