"""Positions that depend on the longest example of a batch change no loss and no gradient."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config

from evalsuite.batches import length_sorted_batches
from evalsuite.errors import EvaluationError
from evalsuite.examples import Example
from evalsuite.loss import score_examples
from evalsuite.positions import by_side, check_positions, positions_bound
from runner.training.step_engine import Parts, StepEngine
from runner.training.token_budget import TokenBudget
from runner.training.training_rows import TrainingRow

BOUND = 64
SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def long_rope() -> Phi3Config:
    half = 8
    return Phi3Config(
        **SIZES,
        max_position_embeddings=256,
        original_max_position_embeddings=BOUND,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * half,
            "long_factor": [1.0 + 3 * i for i in range(half)],
            "original_max_position_embeddings": BOUND,
        },
    )


def dynamic_rope() -> LlamaConfig:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    return LlamaConfig(**SIZES, max_position_embeddings=BOUND, rope_parameters=rope)


def tokens_of(length: int) -> torch.Tensor:
    return torch.randint(1, 100, (length,), generator=torch.Generator().manual_seed(length))


def made_example(number: int, ids: tuple[int, ...]) -> Example:
    named = {field.name: "" for field in fields(Example)}
    named |= {"example_id": str(number), "row": number, "input_ids": ids, "labels": ids}
    return Example(**{**named, "prompt_ids": ids[:1]})  # type: ignore[arg-type]  # texts are empty


def gradients(layout: Any, cut: Any) -> torch.Tensor:
    torch.manual_seed(0)
    lora = LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False
    )
    model: Any = get_peft_model(AutoModelForCausalLM.from_config(long_rope()), lora).train()
    parts = Parts(layout=layout, budget=TokenBudget(tokens=10**6, reason=""), pad_token_id=0)
    rows = [
        TrainingRow(input_ids=ids, labels=ids) for ids in map(tokens_of, (20, 90, 25, 100, 64, 65))
    ]
    StepEngine(model, model.get_base_model(), parts).gradients(rows, supervised=300, cut=cut)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_step_with_examples_on_both_sides_has_the_gradients_of_each_alone(layout: Any) -> None:
    alone = gradients(layout, [[0], [1], [2], [3], [4], [5]])
    ours = gradients(layout, None)
    planted = gradients(layout, [[0, 1, 2, 3, 4, 5]])  # what one part of both sides comes to
    assert (ours - alone).norm() < 1e-5 * alone.norm()
    assert (planted - alone).norm() > 1e-2 * alone.norm()


@pytest.mark.parametrize("pack", [False, True])
def test_held_out_loss_does_not_depend_on_the_batch(pack: bool) -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(long_rope()).eval()
    examples = [
        made_example(n, tuple(ids))
        for n, ids in enumerate(tokens_of(length).tolist() for length in (20, 90, 25, 100))
    ]

    def losses(batch_tokens: int) -> list[float]:
        scored = score_examples(
            model, examples, pad_token_id=0, batch_tokens=batch_tokens, pack=pack
        )
        return [example.nll for example in scored]

    assert losses(1) == pytest.approx(losses(10_000), rel=1e-5)


def test_dynamic_positions_are_refused_beyond_their_bound() -> None:
    assert positions_bound(dynamic_rope()) is None
    check_positions(dynamic_rope(), BOUND)
    with pytest.raises(EvaluationError, match=r"Set template\.max_length to 64 at most"):
        check_positions(dynamic_rope(), BOUND + 1)


def test_plain_positions_know_no_sides() -> None:
    config = LlamaConfig(**SIZES, max_position_embeddings=BOUND)
    assert positions_bound(config) is None
    check_positions(config, 10 * BOUND)
    lengths = [5, 90, 7]
    assert by_side(length_sorted_batches, lengths, 500, bound=None) == length_sorted_batches(
        lengths, 500
    )


def test_every_example_is_in_one_group_of_its_side() -> None:
    lengths = [5, 90, 64, 65, 7]
    groups = by_side(length_sorted_batches, lengths, 1000, bound=BOUND)
    assert sorted(map(sorted, groups)) == [[0, 2, 4], [1, 3]]
