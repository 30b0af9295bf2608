"""The gradients of a step do not depend on how it is cut, laid out, or interrupted by memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from runner.training.neftune import EmbeddingNoise
from runner.training.step_engine import Layout, Parts, StepEngine
from runner.training.token_budget import TokenBudget
from runner.training.training_rows import IGNORED, TrainingRow

LENGTHS = (3, 200, 5, 64, 7, 90, 4, 4, 11, 33, 150, 6, 8, 21, 2, 17)  # very unequal


def rows_of(lengths: tuple[int, ...] = LENGTHS) -> list[TrainingRow]:
    generator = torch.Generator().manual_seed(5)
    rows = []
    for length in lengths:
        ids = torch.randint(0, 60, (length,), generator=generator)
        labels = ids.clone()
        labels[: length // 3] = IGNORED
        rows.append(TrainingRow(input_ids=ids, labels=labels))
    return rows


def engine_of(layout: Layout = "packed", tokens: int = 10_000, **parts: Any) -> StepEngine:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        vocab_size=60,
    )
    lora = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
    )
    model: Any = get_peft_model(LlamaForCausalLM(config), lora)
    budget = TokenBudget(tokens=tokens, reason="")
    made = Parts(layout=layout, budget=budget, pad_token_id=0, **parts)
    return StepEngine(model, model.get_base_model(), made)


def supervised(rows: list[TrainingRow]) -> int:
    return sum(int((row.labels[1:] != IGNORED).sum()) for row in rows)


def computed(engine: StepEngine, rows: list[TrainingRow], cut: Any = None) -> tuple[float, Any]:
    loss = engine.gradients(rows, supervised=supervised(rows), cut=cut)
    grads = {n: p.grad.clone() for n, p in engine.model.named_parameters() if p.requires_grad}
    return loss.item(), grads


def worst(a: Any, b: Any) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def reference() -> tuple[float, Any]:
    """One example after the other, by the model's own logits and autograd alone."""
    engine, rows = engine_of(), rows_of()
    total = torch.zeros(())
    for row in rows:
        logits = engine.model(input_ids=row.input_ids[None]).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(
            logits, row.labels[1:], ignore_index=IGNORED, reduction="sum"
        )
    loss = total / supervised(rows)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in engine.model.named_parameters() if p.requires_grad}
    return loss.item(), grads


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_every_cut_gives_the_gradients_of_the_whole(layout: Layout, size: int) -> None:
    cut = [list(range(start, start + size)) for start in range(0, 16, size)]
    loss, gradients = computed(engine_of(layout), rows_of(), cut)
    expected, wanted = reference()
    assert loss == pytest.approx(expected, rel=1e-6)
    assert max(float(g.abs().max()) for g in wanted.values()) > 1e-2
    assert worst(gradients, wanted) < 1e-5


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("tokens", [1, 100, 300, 10_000])
def test_every_budget_gives_the_same_gradients(layout: Layout, tokens: int) -> None:
    engine = engine_of(layout, tokens)
    _, gradients = computed(engine, rows_of())
    assert worst(gradients, reference()[1]) < 1e-5
    real = sum(LENGTHS)
    assert engine.computed_tokens == real or layout == "padded"
    assert engine.computed_tokens >= real


def test_an_average_of_parts_would_be_caught() -> None:
    """The planted error: each part divided by its own tokens, as averages of averages are."""
    engine, rows = engine_of(), rows_of()
    for row in rows:
        engine.gradients([row], supervised=max(supervised([row]), 1), scale=1 / len(rows))
    planted = {n: p.grad.clone() for n, p in engine.model.named_parameters() if p.requires_grad}
    assert worst(planted, reference()[1]) > 1e-3


class Memory:
    """Fails as a GPU does where more than ``limit`` tokens are computed at once, in the middle."""

    def __init__(self, engine: StepEngine, limit: int) -> None:
        self.limit = limit
        self.sizes: list[int] = []
        engine.inner.model.layers[1].register_forward_pre_hook(self._look)

    def _look(self, _: Any, inputs: Any) -> None:
        size = inputs[0].shape[0] * inputs[0].shape[1]
        self.sizes.append(size)
        # Only the second part fails: the first one's gradients are there already.
        if size > self.limit and len(self.sizes) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_step_that_runs_out_of_memory_is_repeated_with_the_same_gradients(layout: Layout) -> None:
    said: list[str] = []
    engine = engine_of(layout, 320, announce=said.append)
    memory = Memory(engine, 210)
    loss, gradients = computed(engine, rows_of())
    expected, wanted = reference()
    assert loss == pytest.approx(expected, rel=1e-6)
    assert worst(gradients, wanted) < 1e-5
    assert max(memory.sizes) > 210  # it did fail
    assert len(said) >= 1
    assert "out of memory with " in said[0]
    assert "the step is repeated with" in said[0]
    assert engine.computed_tokens <= 2 * sum(LENGTHS)  # what failed is not counted
    (told,) = engine.changes()
    assert told.startswith(f"hardware.micro_batch_tokens: {engine.budget.tokens:,} in the end: ")
    before = len(said)
    for parameter in engine.model.parameters():
        parameter.grad = None
    computed(engine, rows_of())
    assert len(said) == before  # the smaller budget stays


def test_an_example_that_alone_does_not_fit_is_no_endless_loop() -> None:
    engine = engine_of(tokens=1)
    memory = Memory(engine, 150)
    with pytest.raises(torch.OutOfMemoryError):
        computed(engine, rows_of((10, 200))[::-1] + rows_of((190, 180)))
    assert len(memory.sizes) <= 3


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_noise_is_that_of_each_example_in_every_layout(layout: Layout) -> None:
    """NEFTune's bound is alpha / sqrt(L·d) with L the example's own length."""
    engine = engine_of(layout)
    plain: list[torch.Tensor] = []
    noisy: list[torch.Tensor] = []
    embedding: Any = engine.inner.get_input_embeddings()
    embedding.register_forward_hook(lambda _m, _i, out: plain.append(out.detach().clone()))
    noise = EmbeddingNoise(engine.inner, alpha=5.0)
    embedding.register_forward_hook(lambda _m, _i, out: noisy.append(out.detach().clone()))
    engine.parts = replace(engine.parts, noise=noise)
    rows = rows_of((4, 100))
    engine.model.train()
    engine.gradients(rows, supervised=100, cut=[[0, 1]])
    added = (noisy[-1] - plain[-1]).abs()
    parts = (added[0, :4], added[0, 4:] if layout == "packed" else added[1])
    for part, length in zip(parts, (4, 100), strict=True):
        bound = 5.0 / (length * 32) ** 0.5
        assert part.max() <= bound
        assert part.max() > 0.9 * bound
    engine.model.eval()
    engine.gradients(rows, supervised=100, cut=[[0, 1]])
    assert torch.equal(noisy[-1], plain[-1])
