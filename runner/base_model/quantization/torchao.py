"""torchao: weights of 8 bits, one scale for each row, rounded while they are loaded."""

from __future__ import annotations

from typing import Any

from runner.base_model.quantization.method import DTYPES, Method, Storage
from runner.recipe import Quantization

INT4, INT8 = 4, 8

METHOD = Method(
    name="torchao",
    purpose="Weights rounded while they are loaded, in PyTorch alone: nothing to build.",
    storages={
        INT8: Storage(
            name="int8, weights only",
            dtypes={"cpu": DTYPES, "cuda": DTYPES},
            kernels={"cpu": "PyTorch", "cuda": "PyTorch"},
            variants=("lora", "rslora", "dora"),
            merges=False,
        ),
        INT4: Storage(
            name="int4, weights only",
            dtypes={"cuda": ("bfloat16",)},
            kernels={"cuda": "tinygemm"},
            variants=(),
            merges=False,
            untrainable="peft and transformers train on its 8 bits alone, and 4 need a GPU",
        ),
    },
    options=("bits",),
    arguments="runner.base_model.quantization.torchao:arguments",
    extra="torchao",
    packages=("torchao",),
)


def arguments(block: Quantization, device: str, dtype: str) -> dict[str, Any]:
    """int8 weights with one scale for each row; activations stay as they are."""
    del block, device, dtype
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return {"quantization_config": TorchAoConfig(quant_type=Int8WeightOnlyConfig())}
