"""Quantization methods: what each needs installed, and how a base model is loaded with it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, cast

from runner.base_model.model_source import ModelSource
from runner.errors import MachineError, ProofboxError, UsageError
from runner.recipe import Quantization

# method -> "module:attribute" of a function (block, device) -> from_pretrained's arguments.
METHODS: dict[str, str] = {
    "none": "runner.base_model.quantization:no_quantization",
    "gptq": "runner.base_model.quantization:gptq",
}


def check_quantization(block: Quantization, source: ModelSource) -> None:
    """Refuse a recipe that contradicts the checkpoint, before anything is loaded.

    Raises:
        UsageError: the recipe says another method than the checkpoint's configuration.
        MachineError: the method's packages are not installed.
    """
    if block.method == (source.quantization or "none"):
        if block.method == "gptq":
            _require_gptqmodel()
            _check_bits(block, source)
        return
    if block.method == "none":
        raise UsageError(
            f"quantization.method: none, but {source.name} is quantized with "
            f"{source.quantization}. Write `quantization: {{method: {source.quantization}, …}}`."
        )
    raise UsageError(
        f"quantization.method: {block.method}, but {source.name} is not a GPTQ checkpoint "
        f"(it is {source.quantization or 'not quantized'}). Quantizing a full-precision base "
        "is not part of this version: give a GPTQ checkpoint, or `method: none`."
    )


def _check_bits(block: Quantization, source: ModelSource) -> None:
    if source.quantization_bits not in (None, block.bits):
        raise UsageError(
            f"quantization.bits: {block.bits}, but {source.name} is quantized to "
            f"{source.quantization_bits} bits. Write {source.quantization_bits}."
        )


def loading_arguments(block: Quantization, device: str) -> dict[str, Any]:
    """Keyword arguments for ``from_pretrained`` on ``device``."""
    method: Callable[[Quantization, str], dict[str, Any]] = resolve_name(METHODS[block.method])
    return method(block, device)


def no_quantization(block: Quantization, device: str) -> dict[str, Any]:
    """Full-precision weights need no argument."""
    del block, device
    return {}


def gptq(block: Quantization, device: str) -> dict[str, Any]:
    """A GPTQ checkpoint, with a kernel that can train.

    The kernel is always named: gptqmodel's default on a CPU packs the weights for inference at the
    first forward pass and LoRA gradients vanish without an error (docs/decisions/0004).
    """
    from transformers import GPTQConfig

    backend = trainable_kernel(device) if block.kernel == "auto" else block.kernel
    if backend == "triton" and device != "cuda":
        raise UsageError("quantization.kernel: triton needs a CUDA device; write `auto` or `torch`")
    return {
        "quantization_config": GPTQConfig(bits=cast(int, block.bits), backend=f"gptq_{backend}")
    }


def trainable_kernel(device: str) -> str:
    """The fastest GPTQ kernel on ``device`` that gives gradients (measured: design notes)."""
    return "triton" if device == "cuda" else "torch"


def _require_gptqmodel() -> None:
    missing = [name for name in ("gptqmodel", "optimum") if find_spec(name) is None]
    if missing:
        raise missing_extra("gptq", missing)


def missing_extra(extra: str, missing: list[str]) -> ProofboxError:
    """The message for an optional dependency that is not installed."""
    return MachineError(
        f"{', '.join(missing)} not installed. This recipe needs the extra: "
        f"pip install 'proofbox[{extra}]'"
    )
