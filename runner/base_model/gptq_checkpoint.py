"""GPTQ checkpoints as auto-gptq and its successors leave them: what transformers must be told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import MachineError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

SETTINGS = "quantize_config.json"  # auto-gptq's own; before its 0.5 the only place
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MODEL_FILE = "config.json"
_ZEROS = ".qzeros"
_WORD = 32  # bits of an integer that values are packed in


def checkpoint_settings(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the model in ``folder`` says that it is quantized; None where it says nothing.

    ``config`` is its ``config.json``. transformers reads that alone, and takes a checkpoint that
    only ``quantize_config.json`` tells of for a plain one whose linear layers are missing.

    Raises:
        MachineError: the file is damaged.
    """
    stated = config.get("quantization_config")
    if stated is not None or not (folder / SETTINGS).is_file():
        return stated
    try:
        settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise MachineError(f"model.base: {folder / SETTINGS} is damaged: {error}") from None
    return {"quant_method": "gptq", **settings}


def stored_format(settings: Mapping[str, Any]) -> str:
    """``gptq`` (zero points minus one) or ``gptq_v2``; the first where nothing is said."""
    return str(settings.get("checkpoint_format") or settings.get("format") or "gptq").lower()


def complete_config(config: PreTrainedConfig, folder: Path) -> PreTrainedConfig:
    """``config`` of a GPTQ checkpoint with what transformers does not find by itself.

    That is the settings of ``quantize_config.json``, and the name of the weights' file: auto-gptq's
    own was ``gptq_model-4bit-128g.safetensors``.

    Raises:
        MachineError: there are several files of weights and nothing says which counts.
    """
    completed: Any = config
    settings = checkpoint_settings(folder, config.to_dict())
    if settings is None:
        return config
    completed.quantization_config = settings
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    if WHOLE in weights or (folder / INDEX).is_file():
        return config
    if len(weights) > 1:
        raise MachineError(
            f"model.base: {folder} has the weights {', '.join(weights)}, and nothing says which "
            f"count. Keep one, or name it {WHOLE}."
        )
    completed.transformers_weights = weights[0]
    return config


def check_zero_points(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse zero points that no two programs read alike.

    Format ``gptq`` stores zero points minus one. A zero point of 0 is stored as the highest value,
    spilt over its neighbours by auto-gptq (``qlinear_cuda.py:pack``); auto-gptq's kernels read it
    as 0 or as 2^bits, and gptqmodel carries into the neighbour. Only gptqmodel's own files are
    written so that its reading is right.

    Raises:
        MachineError: there is such a zero point, in a checkpoint that gptqmodel did not write.
    """
    writer = str((settings.get("meta") or {}).get("quantizer", ""))
    if stored_format(settings) != "gptq" or "gptqmodel" in writer:
        return
    bits = int(settings["bits"])
    if _WORD % bits:  # 3 bits: values lie across words, and no kernel here trains with them
        return
    for name, words in _zero_points(folder):
        if bool((_unpacked(words, bits) == 2**bits - 1).any()):
            raise MachineError(
                f"model.base: {folder}: {name} holds zero points of 0 in format gptq, which "
                "programs read differently. Quantize the base again with sym: true, or with a "
                "program that writes checkpoint_format: gptq_v2."
            )


def _zero_points(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                if name.endswith(_ZEROS):
                    yield name, file.get_tensor(name)


def _unpacked(words: torch.Tensor, bits: int) -> torch.Tensor:
    """The values in integers (...,) of 32 bits: (..., 32 / bits)."""
    import torch

    shifts = torch.arange(0, _WORD, bits, dtype=words.dtype)
    return torch.bitwise_and(torch.bitwise_right_shift(words[..., None], shifts), 2**bits - 1)


def settle(model: PreTrainedModel) -> None:
    """Make a loaded GPTQ model as exact as its type, and what it says of itself true.

    gptqmodel keeps scales in float16 and multiplies in their type: in a float32 model each weight
    would be rounded to half precision (the logits of an asymmetric checkpoint differed by 5e-3).
    Its torch and Triton kernels hold zero points as they are (``gptq_v2``) and still call them
    ``gptq``: saved, they would be read one too high (loss 4.91 became 7.44).
    """
    import torch

    layers: list[Any] = [module for module in model.modules() if hasattr(module, "qzeros")]
    for layer in layers:
        if model.dtype == torch.float32:
            layer.scales = layer.scales.float()
    config: Any = model.config.quantization_config
    if layers and all(layer.qzero_format() == 2 for layer in layers):  # noqa: PLR2004 - its number
        config.format = "gptq_v2"
