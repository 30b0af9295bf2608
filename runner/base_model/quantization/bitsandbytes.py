"""bitsandbytes: NF4 (Dettmers et al. 2023, arXiv 2305.14314), and int8 (arXiv 2208.07339)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from runner.base_model.quantization.method import DTYPES, Method, Storage
from runner.errors import MachineError
from runner.recipe import Quantization

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NF4, INT8 = 4, 8
# Of a Linear4bit: whether it may repack its weights for inference on a CPU.
PACKS = "support_avx512bf16_for_cpu"

METHOD = Method(
    name="bitsandbytes",
    purpose="Weights rounded while they are loaded, without calibration: nothing to prepare.",
    storages={
        NF4: Storage(
            name="NF4, its scales quantized too",
            dtypes={"cpu": DTYPES, "cuda": DTYPES},
            kernels={"cpu": "dequantize, PyTorch", "cuda": "dequantize, cuBLAS"},
            variants=("lora", "rslora", "dora"),
            merges=False,
        ),
        INT8: Storage(
            name="int8, weights only",
            dtypes={"cpu": DTYPES, "cuda": DTYPES},
            kernels={"cpu": "dequantize, PyTorch", "cuda": "dequantize, cuBLAS"},
            variants=("lora", "rslora"),
            merges=False,
        ),
    },
    options=("bits",),
    arguments="runner.base_model.quantization.bitsandbytes:arguments",
    loaded="runner.base_model.quantization.bitsandbytes:settle",
    extra="bitsandbytes",
    packages=("bitsandbytes",),
)


def arguments(block: Quantization, device: str, dtype: str) -> dict[str, Any]:
    """NF4 with double quantization, or int8, computed in ``dtype``.

    The device is always named: without one, transformers takes a GPU whatever the recipe says.
    """
    import torch
    from transformers import BitsAndBytesConfig

    # One line for each type and layer that it computes in another type.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if block.bits == INT8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    place = "cpu" if device == "cpu" else torch.cuda.current_device()
    return {"quantization_config": config, "device_map": {"": place}}


def settle(model: PreTrainedModel) -> None:
    """Make the layers compute in evaluation as they do in training.

    Raises:
        MachineError: this version of bitsandbytes says in another way whether it repacks.
    """
    import bitsandbytes

    from runner.base_model.quantization.int8_linear import WeightsOnlyLinear8bit

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear8bitLt):
            module.__class__ = WeightsOnlyLinear8bit
    never_pack(model)


def never_pack(model: PreTrainedModel) -> None:
    """Forbid every NF4 module to repack its weights for inference, which is for good.

    On a CPU with AVX-512 in bfloat16, bitsandbytes 0.50 (``nn/modules.py:Linear4bit.forward``)
    repacks at the first forward pass in evaluation mode; that layout has no backward pass, and the
    LoRA matrices before such a module get no gradient, without an error.

    Raises:
        MachineError: this version of bitsandbytes says in another way whether it repacks.
    """
    import bitsandbytes

    for name, module in model.named_modules():
        if not isinstance(module, bitsandbytes.nn.Linear4bit):
            continue
        if not hasattr(module, PACKS):
            raise MachineError(
                f"bitsandbytes {bitsandbytes.__version__}: {name} has no {PACKS}, by which NF4 "
                "weights are kept from being repacked for inference; their adapters would get no "
                "gradient. Install a version that is known: pip install bitsandbytes==0.50.2"
            )
        setattr(module, PACKS, False)
