"""A layer that gives its input no gradient stops a training before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from runner.errors import MachineError
from runner.recipe import Lora
from runner.training.gradient_passage import check_passage
from runner.training.lora import attach_adapter


class PackedLinear(torch.nn.Linear):
    """Stands for a quantized layer; once ``packed``, it multiplies without a gradient."""

    packed = False

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if not self.packed:
            return super().forward(given)
        with torch.no_grad():
            return super().forward(given)


@pytest.fixture
def base(tiny_model_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            module.__class__ = PackedLinear
    return model


def adapted(base: Any, targets: Any = "all-linear") -> Any:
    return attach_adapter(base, Lora(r=2, target_modules=targets), seed=1)


def test_layers_that_pass_gradients_are_let_pass(base: Any) -> None:
    model = adapted(base)
    before = [parameter.grad for parameter in model.parameters()]
    check_passage(model)
    assert [parameter.grad for parameter in model.parameters()] == before


def test_one_layer_that_does_not_is_named(base: Any) -> None:
    base.model.layers[1].mlp.up_proj.packed = True
    message = (
        r"^1 quantized layers, such as model\.layers\.1\.mlp\.up_proj, pass no gradient on: Pa"
    )
    with pytest.raises(MachineError, match=message):
        check_passage(adapted(base))


def test_every_tensor_may_have_a_gradient_all_the_same(base: Any) -> None:
    """Why the gradients of the adapter alone do not show it: they come, and are other ones."""
    ids = torch.tensor([[1, 40, 41, 42, 43]])
    found = []
    model = adapted(base)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if ".lora_B." in name:
                tensor.normal_(std=0.1)
    for packed in (False, True):
        for module in model.modules():
            if isinstance(module, PackedLinear):
                module.packed = packed
        model.zero_grad()
        model.enable_input_require_grads()
        model(input_ids=ids, labels=ids).loss.backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad})
    assert all(bool(gradient.any()) for gradient in found[1].values())
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_A.default.weight"
    assert (found[1][name] - found[0][name]).norm() > 0.1 * found[0][name].norm()
    with pytest.raises(MachineError, match="14 quantized layers"):
        check_passage(model)


def test_plain_layers_are_not_tried(tiny_model_folder: Path, monkeypatch: Any) -> None:
    from transformers import AutoModelForCausalLM

    model = adapted(AutoModelForCausalLM.from_pretrained(tiny_model_folder))
    monkeypatch.setattr(torch.nn.Linear, "forward", None)
    check_passage(model)
