"""Which optimizer runs where, and what it keeps."""

from __future__ import annotations

import importlib.machinery
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from runner.errors import MachineError
from runner.training import optimizers
from runner.training.optimizers import choose_optimizer, optimizer_bytes

SHAPES = ((64, 128), (128, 64), (300,))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def say(there: bool) -> None:
        spec = importlib.machinery.ModuleSpec("bitsandbytes", None) if there else None
        monkeypatch.setattr(optimizers, "find_spec", lambda _: spec)

    return say


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("wanted", ["adafactor", "sgd"])
def test_pytorchs_and_transformers_own_run_anywhere(
    installed: Any, wanted: str, device: str
) -> None:
    installed(False)
    assert choose_optimizer(wanted, device) == (optimizers.OPTIMIZERS[wanted], None)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_adamw_is_one_kernel_unless_gradients_are_scaled(device: str) -> None:
    """With the fused one accelerate does not see that a step overflowed and was left out."""
    assert choose_optimizer("adamw", device) == ("adamw_torch_fused", None)
    assert choose_optimizer("adamw", device, scaled=True) == ("adamw_torch", None)
    assert choose_optimizer("paged_adamw_32bit", "cpu", scaled=True)[0] == "adamw_torch"


def test_nothing_is_paged_without_cuda_or_bitsandbytes(installed: Any) -> None:
    installed(False)
    said = "training.optimizer: adamw instead of paged_adamw_32bit"
    for device, lacking in (("cpu", "no CUDA device"), ("cuda", "bitsandbytes is not installed")):
        assert choose_optimizer("paged_adamw_32bit", device) == (
            "adamw_torch_fused",
            f"{said} ({lacking})",
        )
    installed(True)
    assert choose_optimizer("paged_adamw_32bit", "cuda") == ("paged_adamw_32bit", None)
    assert choose_optimizer("paged_adamw_8bit", "cuda") == ("paged_adamw_8bit", None)
    assert choose_optimizer("paged_adamw_8bit", "cpu") == (
        "adamw_bnb_8bit",
        "training.optimizer: adamw_8bit instead of paged_adamw_8bit (no CUDA device)",
    )


@pytest.mark.parametrize("wanted", ["adamw_8bit", "paged_adamw_8bit"])
def test_eight_bits_are_never_replaced_by_more(installed: Any, wanted: str) -> None:
    installed(True)
    assert choose_optimizer("adamw_8bit", "cpu") == ("adamw_bnb_8bit", None)
    installed(False)
    with pytest.raises(MachineError, match=r"pip install 'proofbox\[bitsandbytes\]'"):
        choose_optimizer(wanted, "cpu")


@pytest.mark.parametrize("name", ["adamw", "adafactor", "sgd", "adamw_8bit"])
def test_an_optimizer_keeps_what_is_estimated(name: str) -> None:
    if name == "adamw_8bit" and find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    optimizer = _optimizer(name, parameters)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    kept = sum(
        tensor.numel() * tensor.element_size()
        for state in optimizer.state.values()
        for key, tensor in state.items()
        if isinstance(tensor, torch.Tensor) and tensor.numel() > 1 and not key.startswith("qmap")
    )
    assert optimizer_bytes(name, SHAPES) == pytest.approx(kept, rel=0.05)


def _optimizer(name: str, parameters: list[Any]) -> Any:
    if name == "adamw":
        return torch.optim.AdamW(parameters)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.1)
    if name == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(parameters, lr=0.1, scale_parameter=False, relative_step=False)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters)
