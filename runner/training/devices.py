"""How many devices train an adapter together, and what cannot be trained so."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runner.errors import MachineError, UsageError
from runner.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Strategy = Literal["ddp", "fsdp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """``count`` devices of this machine, a process each, that share every optimizer step.

    With ``ddp`` each holds the whole model; with ``fsdp`` each holds a part of the base model's
    weights and the whole adapter.
    """

    count: int = 1
    strategy: Strategy = "ddp"

    @property
    def text(self) -> str:
        """For people: ``2 devices (ddp)``."""
        return "1 device" if self.count == 1 else f"{self.count} devices ({self.strategy})"


ONE_DEVICE = Devices()


def check_devices(devices: Devices, recipe: Recipe, device: str) -> None:
    """Refuse what this recipe or this machine cannot do on so many devices; loads nothing.

    Raises:
        UsageError: fewer examples in a step than devices, or weights that cannot be shared out.
        MachineError: there are not so many devices.
    """
    if devices.count == 1:
        if devices.strategy == "fsdp":
            raise UsageError("--strategy fsdp shares weights between devices: add --devices N")
        return
    if recipe.training.batch_size < devices.count:
        raise UsageError(
            f"--devices {devices.count}: training.batch_size is {recipe.training.batch_size}, so "
            f"{devices.count - recipe.training.batch_size} of them would have no example in a "
            f"step. Use at most {recipe.training.batch_size}."
        )
    available = devices_here(device)
    if devices.count > available:
        named = "CUDA devices" if device == "cuda" else "CPU cores"
        raise MachineError(
            f"--devices {devices.count}: there are {available} {named} for this process"
        )
    if devices.strategy == "fsdp":
        _check_shardable(recipe)


def devices_here(device: str) -> int:
    """CUDA devices that PyTorch sees, or CPU cores that this process may use."""
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_shardable(recipe: Recipe) -> None:
    """The base model's weights can be shared out where they are floats that stay as they are."""
    method, lora = recipe.quantization.method, recipe.lora
    reasons = {
        f"quantization.method: {method} has packed weights": method != "none",
        f"lora.variant: {lora.variant} starts from whole ones": lora.variant in ("dora", "pissa"),
        f"lora.bias: {lora.bias} changes some of them": lora.bias != "none",
        "lora.modules_to_save changes some of them": bool(lora.modules_to_save),
        "lora.trained_tokens changes some of them": bool(lora.trained_tokens),
    }
    against = [reason for reason, holds in reasons.items() if holds]
    if against:
        raise UsageError(
            "--strategy fsdp shares out the base model's weights, but "
            f"{' and '.join(against)}. Use --strategy ddp."
        )


def check_layers(devices: Devices, skeleton: PreTrainedModel) -> None:
    """Refuse ``fsdp`` for an architecture whose layers transformers would not find.

    Raises:
        UsageError: they are not where all newer architectures have them.
    """
    if devices.strategy == "fsdp" and not hasattr(skeleton.base_model, "layers"):
        raise UsageError(
            f"--strategy fsdp: transformers does not know how to share out the weights of "
            f"{type(skeleton).__name__}. Use --strategy ddp."
        )
