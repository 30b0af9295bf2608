"""Weights as they are: the method ``none``."""

from __future__ import annotations

from typing import Any

from runner.base_model.quantization.method import DTYPES, VARIANTS, Method, Storage
from runner.recipe import Quantization

METHOD = Method(
    name="none",
    purpose="The base model as it is, in the type `model.dtype`.",
    storages={
        0: Storage(
            name="full precision",
            dtypes={"cpu": DTYPES, "cuda": DTYPES},
            kernels={"cpu": "PyTorch", "cuda": "PyTorch"},
            variants=VARIANTS,
            merges=True,
        )
    },
    options=(),
    arguments="runner.base_model.quantization.full_precision:arguments",
)


def arguments(block: Quantization, device: str, dtype: str) -> dict[str, Any]:
    """Full-precision weights need no argument."""
    del block, device, dtype
    return {}
