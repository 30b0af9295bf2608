"""Training on examples end to end: loss and gradients are those of padded rows."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import CheckpointError

from evalsuite.packed_attention import attending, packed_inputs

from .conftest import PAD, VOCABULARY
from .test_packed_attention import FAMILIES, family

LENGTHS = (61, 2, 35, 19, 40)


def rows() -> list[torch.Tensor]:
    chosen = torch.Generator().manual_seed(2)
    return [torch.randint(3, VOCABULARY, (length,), generator=chosen) for length in LENGTHS]


def padded_loss(model: Any) -> torch.Tensor:
    """Summed cross-entropy of every token but the first of each row; a row each."""
    tokens = torch.nn.utils.rnn.pad_sequence(rows(), batch_first=True, padding_value=PAD)
    mask = torch.stack([torch.arange(tokens.shape[1]) < length for length in LENGTHS]).long()
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    targets = tokens.masked_fill(mask == 0, -100)
    return summed(logits[:, :-1], targets[:, 1:])


def packed_loss(model: Any) -> torch.Tensor:
    tokens = torch.cat(rows())
    targets = torch.cat([torch.cat([row[1:], torch.tensor([-100])]) for row in rows()])
    inputs = packed_inputs(LENGTHS, "cpu")
    logits = model(input_ids=tokens[None], use_cache=False, **inputs).logits
    return summed(logits, targets[None])


def summed(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")


def gradients(model: Any, *, packed: bool) -> dict[str, torch.Tensor]:
    """Loss and gradients by name, those of a mean over the tokens."""
    model.zero_grad()
    with attending(model) if packed else nullcontext():
        loss = (packed_loss if packed else padded_loss)(model) / sum(LENGTHS)
        loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


def assert_alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert len(expected) > 1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=name)


def with_adapter(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(4)
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return wrapped


def checkpoint_layers(model: Any) -> None:
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_gradients_are_those_of_padded_rows(name: str) -> None:
    """Of every weight, then of an adapter's alone; each also with layers that are recomputed."""
    model = family(name, **FAMILIES[name]).train()
    expected = gradients(model, packed=False)
    assert_alike(gradients(model, packed=True), expected)
    checkpoint_layers(model)
    assert_alike(gradients(model, packed=True), expected)
    model.activation_checkpointing_disable()
    adapted = with_adapter(model)
    expected = gradients(adapted, packed=False)
    assert all("lora" in key for key in expected if key != "loss")
    assert_alike(gradients(adapted, packed=True), expected)
    checkpoint_layers(adapted)
    assert_alike(gradients(adapted, packed=True), expected)


def test_a_backward_pass_outside_of_it_is_an_error() -> None:
    """Planted: the attention is put back before checkpointed layers are computed again."""
    model = family("Llama").train()
    checkpoint_layers(model)
    with attending(model):
        loss = packed_loss(model) / sum(LENGTHS)
    with pytest.raises(CheckpointError):
        loss.backward()
