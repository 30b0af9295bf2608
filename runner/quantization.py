"""Quantization methods: what each needs installed, and how a base model is loaded with it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, cast

from runner.errors import EnvironmentFault, ProofboxError, UsageError
from runner.model_source import ModelSource
from runner.recipe import Quantization

# method -> "module:attribute" of a function (block, source, device) -> from_pretrained's arguments.
METHODS: dict[str, str] = {
    "none": "runner.quantization:no_quantization",
    "gptq": "runner.quantization:gptq",
}


def loading_arguments(block: Quantization, source: ModelSource, device: str) -> dict[str, Any]:
    """Arguments for ``from_pretrained``; refuses a recipe that contradicts the checkpoint."""
    from pkgutil import resolve_name

    method: Callable[[Quantization, ModelSource, str], dict[str, Any]] = resolve_name(
        METHODS[block.method]
    )
    return method(block, source, device)


def no_quantization(block: Quantization, source: ModelSource, device: str) -> dict[str, Any]:
    """Full-precision weights; a quantized checkpoint must be declared as what it is."""
    del block, device
    if source.quantization is not None:
        raise UsageError(
            f"quantization.method: none, but {source.name} is quantized with "
            f"{source.quantization}. Write `quantization: {{method: {source.quantization}, …}}`."
        )
    return {}


def gptq(block: Quantization, source: ModelSource, device: str) -> dict[str, Any]:
    """A GPTQ checkpoint, with a kernel that can train.

    The kernel is always named: gptqmodel's default on a CPU packs the weights for inference at the
    first forward pass and LoRA gradients vanish without an error (docs/decisions/0004).
    """
    if source.quantization != "gptq":
        raise UsageError(
            f"quantization.method: gptq, but {source.name} is not a GPTQ checkpoint "
            f"(it is {source.quantization or 'not quantized'}). Quantizing a full-precision base "
            "is not part of this version: give a GPTQ checkpoint, or `method: none`."
        )
    _require_gptqmodel()
    from transformers import GPTQConfig

    backend = {"auto": "triton" if device == "cuda" else "torch"}.get(block.kernel, block.kernel)
    if backend == "triton" and device != "cuda":
        raise UsageError("quantization.kernel: triton needs a CUDA device; write `auto` or `torch`")
    return {
        "quantization_config": GPTQConfig(bits=cast(int, block.bits), backend=f"gptq_{backend}")
    }


def _require_gptqmodel() -> None:
    missing = [name for name in ("gptqmodel", "optimum") if find_spec(name) is None]
    if missing:
        raise missing_extra("gptq", missing)


def missing_extra(extra: str, missing: list[str]) -> ProofboxError:
    """The message for an optional dependency that is not installed."""
    return EnvironmentFault(
        f"{', '.join(missing)} not installed. This recipe needs the extra: "
        f"pip install 'proofbox[{extra}]'"
    )
