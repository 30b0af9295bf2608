"""The loss at labels alone is full cross-entropy, in value and in gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from runner.errors import UsageError
from runner.training.supervised_loss import Supervised, give_loss, summed_loss

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 50,
}


def random_model(config: Any) -> PreTrainedModel:
    torch.manual_seed(3)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data.mul_(4)  # logits large enough for caps and scales to matter
    return model


CONFIGS: dict[str, Callable[[], Any]] = {
    "plain": lambda: LlamaConfig(**SMALL),
    "scaled": lambda: CohereConfig(**SMALL, logit_scale=0.25),
    "divided": lambda: GraniteConfig(**SMALL, logits_scaling=4.0),
    "capped": lambda: Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=3.0),
}


@pytest.mark.parametrize("head_learns", [False, True], ids=["frozen head", "trained head"])
@pytest.mark.parametrize("family", CONFIGS)
def test_loss_and_gradients_equal_full_cross_entropy(family: str, head_learns: bool) -> None:
    model = random_model(CONFIGS[family]())
    cast_head: Any = model.get_output_embeddings()
    cast_head.weight.requires_grad_(head_learns)
    tokens = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    places = torch.tensor([1, 2, 5, 9, 16])
    targets = tokens.flatten()[places + 1]

    logits = model(input_ids=tokens, use_cache=False).logits.flatten(0, 1)[places]
    expected = cross_entropy(logits.float(), targets, reduction="sum")
    expected.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    give_loss(model)
    supervised = Supervised(places=places, targets=targets)
    loss = model(input_ids=tokens, supervised=supervised)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert len(gradients) > 10
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_nothing(learns: bool, chunk: int) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 30, bias=False)
    head.weight.requires_grad_(learns)
    hidden = torch.randn(7, 8, requires_grad=True)
    targets = torch.randint(0, 30, (7,))
    whole = cross_entropy(head(hidden), targets, reduction="sum")
    (expected,) = torch.autograd.grad(whole * 0.25, hidden)
    found = summed_loss(hidden, targets, head, chunk=chunk)
    (gradient,) = torch.autograd.grad(found * 0.25, hidden)
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("learns", [False, True])
def test_logits_of_all_positions_never_exist(learns: bool) -> None:
    class WatchedHead(torch.nn.Linear):
        most = 0

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            self.most = max(self.most, len(hidden))
            return super().forward(hidden)

    head = WatchedHead(8, 30, bias=False)
    head.weight.requires_grad_(learns)
    hidden = torch.randn(64, 8, requires_grad=True)
    summed_loss(hidden, torch.zeros(64, dtype=torch.long), head, chunk=5).backward()
    assert head.most == 5


def test_half_precision_gradients_do_not_vanish() -> None:
    """Divided by the step's tokens before the head, float16 gradients would be zero."""
    head = torch.nn.Linear(8, 1000, bias=False).half()
    head.weight.requires_grad_(False)
    hidden = torch.randn(4, 8).half().requires_grad_()
    scale, tokens = 2.0**16, 100_000
    loss = summed_loss(hidden, torch.zeros(4, dtype=torch.long), head) / tokens * scale
    (gradient,) = torch.autograd.grad(loss, hidden)
    whole = cross_entropy(
        head.float()(hidden.float()), torch.zeros(4, dtype=torch.long), reduction="sum"
    )
    (expected,) = torch.autograd.grad(whole, hidden)
    torch.testing.assert_close(
        gradient.float() / scale * tokens, expected.float(), rtol=0.02, atol=2e-3
    )


def test_without_labels_the_forward_pass_is_what_it_was() -> None:
    model = random_model(CONFIGS["plain"]()).eval()
    tokens = torch.arange(6).unsqueeze(0)
    before = model(input_ids=tokens).logits
    give_loss(model)
    assert torch.equal(model(input_ids=tokens).logits, before)


def test_logits_made_in_an_unknown_way_are_refused() -> None:
    class Strange(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits.flip(-1)
            return output

    with pytest.raises(UsageError, match="Strange makes its logits in a way that is not known"):
        give_loss(Strange(LlamaConfig(**SMALL)))


def test_chunks_of_logits_are_not_moved_with_the_activations() -> None:
    """What stands for moving activations elsewhere sees the stored gradient alone."""
    moved: list[torch.Size] = []

    def away(tensor: torch.Tensor) -> torch.Tensor:
        moved.append(tensor.shape)
        return tensor

    head = torch.nn.Linear(8, 50, bias=False).requires_grad_(False)
    hidden = torch.randn(6, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(away, lambda tensor: tensor):
        summed_loss(hidden, torch.arange(6), head, chunk=2).backward()
    assert moved == [hidden.shape]
