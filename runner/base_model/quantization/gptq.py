"""GPTQ (Frantar et al. 2022, arXiv 2210.17323): its kernels, and how a checkpoint is loaded."""

from __future__ import annotations

from typing import Any, cast

from runner.base_model.quantization.method import DTYPES, Method, Storage
from runner.errors import UsageError
from runner.recipe import Quantization

HALF = ("bfloat16", "float16")


def _storage(bits: int, untrainable: str = "") -> Storage:
    return Storage(
        name="a scale for each group",
        dtypes={"cpu": DTYPES, "cuda": HALF},
        kernels={"cpu": "torch", "cuda": "triton, or torch"},
        variants=() if untrainable else ("lora", "rslora"),
        merges=False,
        untrainable=untrainable,
    )


METHOD = Method(
    name="gptq",
    purpose="Weights rounded so that the base model's own activations change least: work that is "
    "done once and kept, or was done by who published the checkpoint.",
    storages={
        2: _storage(2),
        3: _storage(3, "triton, the kernel that trains on a GPU, has no 3 bits"),
        4: _storage(4),
        8: _storage(8),
    },
    options=("bits", "kernel", "group_size", "desc_act", "sym", "damp", "calibration"),
    arguments="runner.base_model.quantization.gptq:arguments",
    extra="gptq",
    packages=("gptqmodel", "optimum"),
)


def arguments(block: Quantization, device: str, dtype: str) -> dict[str, Any]:
    """A GPTQ checkpoint, with a kernel that can train.

    The kernel is always named: gptqmodel's default on a CPU packs the weights for inference at the
    first forward pass and LoRA gradients vanish without an error (docs/decisions/0004).

    Raises:
        UsageError: the recipe names a kernel that does not run on ``device``.
    """
    del dtype
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
