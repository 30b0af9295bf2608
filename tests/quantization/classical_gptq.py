"""Checkpoints in auto-gptq's classical format, written from known integers without any library.

auto-gptq 0.7.1, ``nn_modules/qlinear/qlinear_cuda.py:pack`` and ``modeling/_base.py``:
``save_quantized``. Of a linear module that maps ``in`` to ``out`` features:

- ``qweight`` int32 [in · bits / 32, out]: codes, the first of a word in its lowest bits;
- ``qzeros`` int32 [groups, out · bits / 32]: zero points, in format ``gptq`` stored minus one;
- ``scales`` float16 [groups, out]; ``g_idx`` int32 [in]: the group of each input feature.

The weight is ``scales[g_idx] · (codes - zeros[g_idx])``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file, save_file

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WORD = 32  # bits

Format = Literal["gptq", "gptq_v2"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a checkpoint is quantized; ``group_size`` -1 is one group for all input features."""

    bits: int = 4
    group_size: int = 32
    desc_act: bool = False
    sym: bool = True
    format: Format = "gptq"

    def settings(self) -> dict[str, Any]:
        """``quantize_config.json`` as auto-gptq 0.7.1 writes it."""
        return {
            "bits": self.bits,
            "group_size": self.group_size,
            "damp_percent": 0.01,
            "desc_act": self.desc_act,
            "static_groups": False,
            "sym": self.sym,
            "true_sequential": True,
            "model_name_or_path": None,
            "model_file_base_name": None,
            "quant_method": "gptq",
            "checkpoint_format": self.format,
        }


@dataclass(frozen=True, kw_only=True)
class IntegerLinear:
    """A quantized linear module as integers: what a checkpoint says, unpacked.

    Shapes: ``codes`` [in, out], ``zeros`` and ``scales`` [groups, out], ``groups`` [in].
    """

    codes: np.ndarray
    zeros: np.ndarray
    scales: np.ndarray
    groups: np.ndarray

    def weight(self) -> np.ndarray:
        """The weight in float64, [out, in]."""
        scales = self.scales.astype(np.float64)[self.groups]
        return (scales * (self.codes - self.zeros[self.groups])).T

    def tensors(self, scheme: Scheme) -> dict[str, np.ndarray]:
        """The tensors of a checkpoint."""
        stored = self.zeros - 1 if scheme.format == "gptq" else self.zeros
        return {
            "qweight": packed(self.codes, scheme.bits),
            "qzeros": np.ascontiguousarray(packed(stored.T, scheme.bits).T),
            "scales": self.scales,
            "g_idx": self.groups.astype(np.int32),
        }


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers [n, m] in words of 32 bits, [n · bits / 32, m]."""
    if values.min() < 0 or values.max() >= 2**bits:
        raise ValueError(f"{values.min()} to {values.max()} do not fit {bits} bits")
    each = WORD // bits
    words = np.zeros((len(values) // each, values.shape[1]), dtype=np.uint32)
    for place in range(each):
        words |= values[place::each].astype(np.uint32) << np.uint32(bits * place)
    return words.view(np.int32)


def random_linear(
    rng: np.random.Generator, shape: tuple[int, int], scheme: Scheme
) -> IntegerLinear:
    """A module of ``shape`` (in, out) whose codes, zero points and scales are all drawn."""
    features, out = shape
    size = features if scheme.group_size == -1 else scheme.group_size
    count, top = features // size, 2**scheme.bits - 1
    order = rng.permutation(features) if scheme.desc_act else np.arange(features)
    drawn = rng.integers(1, top, size=(count, out), endpoint=True)
    return IntegerLinear(
        codes=rng.integers(0, top, size=shape, endpoint=True),
        zeros=np.full((count, out), 2 ** (scheme.bits - 1)) if scheme.sym else drawn,
        scales=(rng.uniform(0.5, 1.5, size=(count, out)) * 0.2 / top).astype(np.float16),
        groups=order // size,
    )


def write_checkpoint(
    plain: Path,
    folder: Path,
    scheme: Scheme,
    *,
    seed: int = 0,
    weights_file: str = "model.safetensors",
    in_config: bool = True,
) -> dict[str, IntegerLinear]:
    """A GPTQ checkpoint in ``folder`` with the other weights of the model in ``plain``.

    Args:
        plain: A Mistral with its tokenizer, in full precision.
        folder: Is made.
        scheme: How it is quantized.
        seed: Of the integers.
        weights_file: Its name; auto-gptq's own was ``gptq_model-4bit-128g.safetensors``.
        in_config: Whether ``config.json`` tells of the quantization; before auto-gptq 0.5 only
            ``quantize_config.json`` did.

    Returns the linear modules by their paths.
    """
    rng = np.random.default_rng(seed)
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = load_file(plain / "model.safetensors")
    linears: dict[str, IntegerLinear] = {}
    for name in sorted(tensors):
        path = name.removesuffix(".weight")
        if path.rpartition(".")[2] in LINEAR:
            out, features = tensors.pop(name).shape
            linears[path] = random_linear(rng, (features, out), scheme)
    write_weights(folder / weights_file, tensors, linears, scheme)
    settings = scheme.settings()
    (folder / "quantize_config.json").write_text(json.dumps(settings, indent=2))
    if in_config:
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = settings
        (folder / "config.json").write_text(json.dumps(config, indent=2))
    return linears


def write_weights(
    file: Path,
    others: Mapping[str, np.ndarray],
    linears: Mapping[str, IntegerLinear],
    scheme: Scheme,
) -> None:
    """One safetensors file with ``others`` in half precision and the packed ``linears``."""
    stored = {name: tensor.astype(np.float16) for name, tensor in others.items()}
    for path, linear in linears.items():
        stored |= {f"{path}.{name}": t for name, t in linear.tensors(scheme).items()}
    save_file(stored, file, metadata={"format": "pt"})
