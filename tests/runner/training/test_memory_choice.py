"""What is decided about memory: tokens at once, layers that are recomputed, what is moved out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.errors import UsageError
from runner.recipe import Hardware
from runner.training.computing_memory import Device
from runner.training.memory_choice import MemoryChoice, choose_memory
from runner.training.memory_estimate import (
    HEAP,
    RETURNING_HEAP,
    MemoryEstimate,
    TracedLine,
)

MEGABYTE = 10**6


def estimate(device: Device = "cuda") -> MemoryEstimate:
    """A megabyte a token, a tenth of it where all ten layers are recomputed."""
    return MemoryEstimate(
        device=device,
        program=0,
        weights=5 * MEGABYTE,
        adapter=3 * MEGABYTE,
        optimizer=2 * MEGABYTE,
        layers=10,
        kept=TracedLine(first=(100, 100 * MEGABYTE), second=(1000, 1000 * MEGABYTE)),
        all_recomputed=TracedLine(first=(100, 10 * MEGABYTE), second=(1000, 100 * MEGABYTE)),
    )


def choose(
    gigabytes: float, device: Device = "cuda", step: int = 8000, **hardware: Any
) -> MemoryChoice:
    return choose_memory(
        Hardware.model_validate(hardware),
        estimate(device),
        free_bytes=int(gigabytes * 1e9),
        longest=500,
        step_tokens=step,
    )


def test_nothing_is_recomputed_where_memory_suffices() -> None:
    found = choose(100)
    assert (found.recomputed, found.budget.tokens, found.offload) == (0, 8000, False)


def test_a_smaller_budget_comes_before_recomputing() -> None:
    found = choose(4)  # 3,600 tokens fit, enough for a GPU to be busy
    assert (found.recomputed, found.budget.tokens) == (0, 3600)


def test_only_as_many_layers_are_recomputed_as_it_takes() -> None:
    found = choose(1)  # 2,048 tokens take 2.05 GB, and 0.9 may be used
    assert found.recomputed == 7
    assert found.estimate.computing_bytes(2048) <= 0.9e9
    assert estimate().recomputing(6).computing_bytes(2048) > 0.9e9
    assert 2048 <= found.budget.tokens < 2600
    assert (
        "hardware.activation_checkpointing: auto is 7 of 10 layers: 2,048 tokens at once would "
        "take about 2.0 GB, and 0.9 GB may be used"
    ) in found.reasons


def test_a_cpu_recomputes_only_for_the_longest_example() -> None:
    heap = 0.5 * HEAP  # 500 tokens
    assert choose(heap / 0.8 + 0.01, "cpu").recomputed == 0
    found = choose(heap / 0.8 - 0.01, "cpu")
    assert found.recomputed == 1  # from here on freed memory is returned
    assert RETURNING_HEAP < HEAP


def test_what_does_not_fit_at_all_is_recomputed_whole() -> None:
    found = choose(0.01)
    assert (found.recomputed, found.budget.tokens) == (10, 500)
    assert "may take" in found.budget.reason


def test_the_recipe_decides() -> None:
    assert choose(0.01, activation_checkpointing=False).recomputed == 0
    assert choose(100, activation_checkpointing=True).recomputed == 10
    assert choose(100, micro_batch_tokens=700).budget.tokens == 700
    # 700 tokens at once are wanted, so only they need to fit.
    assert choose(0.8, micro_batch_tokens=700).recomputed == 0
    assert choose(0.7, micro_batch_tokens=700).recomputed == 2


def test_what_is_moved_out_leaves_room() -> None:
    found = choose(1, activation_offload=True)
    assert (found.offload, found.recomputed) == (True, 0)
    assert found.budget.tokens == 8000  # as many as with all layers recomputed
    on_cpu = choose(100, "cpu", activation_offload=True)
    assert not on_cpu.offload
    assert any(text.startswith("hardware.activation_offload: nothing") for text in on_cpu.reasons)


@pytest.mark.parametrize("tokens", [100, 1000, 5000])
def test_an_estimate_adds_up(tokens: int) -> None:
    whole = estimate()
    assert whole.standing == 10 * MEGABYTE
    assert whole.peak_bytes(tokens) == (10 + tokens) * MEGABYTE
    assert whole.recomputing(5).computing_bytes(tokens) == int(0.55 * tokens * MEGABYTE)


def test_a_model_that_cannot_be_traced_is_estimated_roughly(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: dict[str, Any]
) -> None:
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from runner.recipe import Recipe
    from runner.training import computing_memory
    from runner.training.memory_estimate import TrainedRows, estimate_memory

    config = MistralConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    with torch.device("meta"):
        skeleton = MistralForCausalLM(config)

    def estimated() -> MemoryEstimate:
        return estimate_memory(
            skeleton,
            Recipe.model_validate(tiny_recipe),
            TrainedRows(longest=50, supervised=0.5, packed=True),
            dtype=torch.float32,
            device="cpu",
            tokens=200,
        )

    traced = estimated()
    parameters = sum(p.numel() for p in skeleton.parameters())
    assert (traced.rough, traced.weights, traced.layers) == (False, 4 * parameters, 2)
    assert (traced.adapter, traced.optimizer) == (8 * 896, 8 * 896)
    assert traced.recomputing(2).computing_bytes(200) < traced.computing_bytes(200)

    def cannot(*_: Any) -> Any:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")

    monkeypatch.setattr(computing_memory, "_loss", cannot)
    rough = estimated()
    assert rough.rough
    assert rough.computing_bytes(200) == int(200 * 2 * 32 * 4 * 17 * HEAP)
    found = choose_memory(Hardware(), rough, free_bytes=10**9, longest=50, step_tokens=200)
    assert found.reasons[-1].startswith("memory: estimated by width and depth alone")


def test_layers_that_are_not_known_cannot_be_recomputed() -> None:
    with pytest.raises(UsageError, match="this model's layers are not known"):
        choose_memory(
            Hardware(activation_checkpointing=True),
            replace(estimate(), layers=0),
            free_bytes=10**9,
            longest=500,
            step_tokens=8000,
        )
