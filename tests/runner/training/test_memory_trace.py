"""What a computation takes is traced without computing it, and is what it really takes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen3Config,
)

from runner.training.activation_memory import checkpoint_layers, layers_of
from runner.training.computing_memory import (
    Batch,
    compute_as_autocast,
    fuse_dropout,
    traced_bytes,
)
from runner.training.live_bytes import LiveBytes
from runner.training.step_engine import Layout, Parts, StepEngine
from runner.training.token_budget import TokenBudget
from runner.training.training_rows import TrainingRow

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "mistral": MistralConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=16),
    "phi3": Phi3Config(**SIZES),
}
LENGTH, COUNT = 48, 6


def adapted(config: Any, dtype: torch.dtype = torch.float32, **lora: Any) -> Any:
    lora = {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.1, **lora}
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config)).to(dtype)
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))


def skeleton(config: Any, dtype: torch.dtype = torch.float32, **lora: Any) -> Any:
    with torch.device("meta"):
        return adapted(config, dtype, **lora)


def really_taken(model: Any, layout: Layout) -> tuple[int, Batch]:
    """Most bytes in use while the CPU computes gradients, and what was computed."""
    lengths = [LENGTH - (place % 3) * (layout == "padded") for place in range(COUNT)]
    rows = []
    for length in lengths:
        ids = torch.randint(5, 300, (length,))
        rows.append(TrainingRow(input_ids=ids, labels=ids.where(torch.arange(length) > 20, -100)))
    budget = TokenBudget(tokens=10_000, reason="")
    engine = StepEngine(
        model, model.get_base_model(), Parts(layout=layout, budget=budget, pad_token_id=0)
    )
    model.train()
    engine.gradients(rows, supervised=1)  # gradients are there from now on
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    counted = LiveBytes([*model.parameters(), *model.buffers(), *gradients])
    with counted:
        engine.gradients(rows, supervised=1)
    supervised = sum(length - 21 for length in lengths)
    if layout == "packed":
        return counted.peak, Batch(rows=1, width=sum(lengths), supervised=supervised, packed=True)
    return counted.peak, Batch(rows=COUNT, width=LENGTH, supervised=supervised, packed=False)


@pytest.mark.parametrize("recomputed", [0, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_traced_is_what_packed_examples_take(family: str, recomputed: int) -> None:
    model, traced = adapted(FAMILIES[family]), skeleton(FAMILIES[family])
    for each in (model, traced):
        checkpoint_layers(each, recomputed)
    taken, batch = really_taken(model, "packed")
    assert traced_bytes(traced, batch, device="cpu") == pytest.approx(taken, rel=0.005)


@pytest.mark.parametrize("recomputed", [0, 3])
@pytest.mark.parametrize(
    "lora",
    [
        {},
        {"use_dora": True},
        {"target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0},
        {"modules_to_save": ["lm_head"]},
    ],
    ids=["all-linear", "dora", "q and v", "with a trained head"],
)
def test_what_is_traced_is_what_padded_examples_take(lora: Any, recomputed: int) -> None:
    model, traced = adapted(FAMILIES["mistral"], **lora), skeleton(FAMILIES["mistral"], **lora)
    for each in (model, traced):
        checkpoint_layers(each, recomputed)
    taken, batch = really_taken(model, "padded")
    assert traced_bytes(traced, batch, device="cpu") == pytest.approx(taken, rel=0.015)


def test_half_precision_is_traced_too() -> None:
    model = adapted(FAMILIES["mistral"], torch.bfloat16)
    taken, batch = really_taken(model, "packed")
    traced = traced_bytes(skeleton(FAMILIES["mistral"], torch.bfloat16), batch, device="cpu")
    assert traced == pytest.approx(taken, rel=0.005)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_autocast_is_traced_too(dropout: float) -> None:
    """As accelerate computes a base in half precision, with an adapter in float32."""
    lora = {"r": 8, "lora_dropout": dropout}
    model = adapted(FAMILIES["mistral"], torch.bfloat16, **lora)
    traced = skeleton(FAMILIES["mistral"], torch.bfloat16, **lora)
    compute_as_autocast(traced, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        taken, batch = really_taken(model, "packed")
    # Beside, autocast keeps a copy of the adapter in half precision.
    copies = sum(2 * p.numel() for p in model.parameters() if p.requires_grad)
    assert traced_bytes(traced, batch, device="cpu") + copies == pytest.approx(taken, rel=0.02)


def test_a_gpu_keeps_a_byte_for_each_value_that_may_be_dropped() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(0.1)).train()
    given = torch.empty(200, 64, device="meta", requires_grad=True)
    fuse_dropout(model)
    with LiveBytes([given]) as counted:
        found = model(given)
    assert counted.live == found.numel() * (4 + 1)
    batch = Batch(rows=1, width=200, supervised=100, packed=True)
    traced = [
        traced_bytes(skeleton(FAMILIES["llama"]), batch, device=device)
        for device in ("cuda", "cpu")
    ]
    assert traced[0] < 0.95 * traced[1]


def test_bytes_are_counted_while_something_holds_them() -> None:
    weight = torch.empty(10, 10)
    with LiveBytes([weight]) as counted:
        kept = weight + 1
        passing = kept * 2
        assert counted.live == 800
        del passing
        assert counted.live == 400
        view = kept.view(100)
        weight.add_(kept)
        assert (counted.live, counted.peak) == (400, 800)
    del view


def test_recomputed_layers_give_the_same_gradients_and_are_the_first() -> None:
    found = []
    for count in (0, 1, 3):
        torch.manual_seed(0)
        model = adapted(FAMILIES["llama"], init_lora_weights=False)
        checkpoint_layers(model, count)
        assert [layer.gradient_checkpointing for layer in layers_of(model)] == [
            place < count for place in range(3)
        ]
        torch.manual_seed(1)  # dropout is drawn again as it was
        really_taken(model, "packed")
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
