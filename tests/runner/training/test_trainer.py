"""What the trainer does by itself in every step is what PyTorch's own calls do."""

from __future__ import annotations

import torch

from runner.training.trainer import _forget_gradients, _seed


def test_a_seed_is_that_of_torch() -> None:
    torch.manual_seed(2**62 + 7)
    expected = torch.rand(5)
    _seed(2**62 + 7)
    assert torch.equal(torch.rand(5), expected)


def test_forgotten_gradients_are_none() -> None:
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    _forget_gradients(list(layer.parameters()))
    assert [p.grad for p in layer.parameters()] == [None, None]
