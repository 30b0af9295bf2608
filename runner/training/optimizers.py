"""Optimizers: which of them runs on this machine, and what it keeps for each trained value."""

from __future__ import annotations

from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING

from runner.base_model.quantization import missing_extra

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The recipe's name -> the name that transformers knows.
OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_32bit": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
# The same mathematics with all moments where the model is: what runs where nothing can be paged.
UNPAGED = {"paged_adamw_32bit": "adamw", "paged_adamw_8bit": "adamw_8bit"}
EIGHT_BIT = ("adamw_8bit", "paged_adamw_8bit")
# Below so many values bitsandbytes keeps a tensor's moments in 32 bits.
_EIGHT_BIT_VALUES = 4096


# One kernel for all tensors. With float16 it hides from accelerate that it left out a step.
_FUSED = {"adamw_torch": "adamw_torch_fused"}


def choose_optimizer(wanted: str, device: str, *, scaled: bool = False) -> tuple[str, str | None]:
    """The optimizer's name for transformers, and a sentence where it is not the wanted one.

    Args:
        wanted: ``training.optimizer``.
        device: ``cuda`` or ``cpu``.
        scaled: Whether gradients are scaled, as those of float16 on a GPU are.

    Raises:
        MachineError: 8-bit moments are asked for, which learn a little differently than those of
            32 bits, and bitsandbytes is not installed.
    """
    installed = find_spec("bitsandbytes") is not None
    if wanted in EIGHT_BIT and not installed:
        raise missing_extra("bitsandbytes", ["bitsandbytes"])
    fused = {} if scaled else _FUSED
    if wanted not in UNPAGED or (device == "cuda" and installed):
        return fused.get(OPTIMIZERS[wanted], OPTIMIZERS[wanted]), None
    lacking = "no CUDA device" if device != "cuda" else "bitsandbytes is not installed"
    taken = UNPAGED[wanted]
    name = fused.get(OPTIMIZERS[taken], OPTIMIZERS[taken])
    return name, f"training.optimizer: {taken} instead of {wanted} ({lacking})"


def optimizer_bytes(name: str, shapes: Iterable[Sequence[int]]) -> int:
    """Bytes that the recipe's optimizer ``name`` keeps for float32 tensors of these shapes."""
    return sum(_tensor_bytes(name, tuple(shape)) for shape in shapes)


def _tensor_bytes(name: str, shape: tuple[int, ...]) -> int:
    values = prod(shape)
    if name == "sgd":  # without momentum
        return 0
    if name == "adafactor":  # a row and a column stand for a matrix
        return 4 * (sum(shape) if len(shape) > 1 else values)
    if name in EIGHT_BIT and values >= _EIGHT_BIT_VALUES:
        return 2 * values
    return 8 * values
