"""What a quantization method is: the ways in which it stores weights, and what each of them can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
VARIANTS = ("lora", "rslora", "dora", "pissa")
# Why a variant is left out of `Storage.variants`.
VARIANT_NEEDS = {
    "dora": "It needs the norms of the base model's weights, which peft cannot read from these.",
    "pissa": "It starts from singular vectors of the base model's own weights, and changes those.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """One way in which a method stores weights: that of one number of bits.

    Attributes:
        name: What people call it.
        dtypes: What it computes in, by device. A device that is left out cannot run it.
        kernels: What multiplies there while an adapter is trained, by device.
        variants: Values of ``lora.variant`` that can be trained on it.
        untrainable: Why none can, a sentence; empty where they can.
        merges: Whether an adapter can be merged into it and be what was judged.
    """

    name: str
    dtypes: Mapping[Device, tuple[str, ...]]
    kernels: Mapping[Device, str]
    variants: tuple[str, ...]
    merges: bool
    untrainable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """An entry of the registry: one value of ``quantization.method``.

    Attributes:
        name: As a recipe writes it.
        purpose: What it is for, a sentence.
        storages: By ``quantization.bits``, of which 0 stands for null.
        options: Keys of the block that have an effect with it.
        arguments: ``module:attribute`` of a function (block, device, dtype) that gives
            ``from_pretrained``'s arguments. It is called only where ``packages`` are installed.
        loaded: The same of a function (model) that makes a loaded model fit to be trained on.
        extra: The extra of proofbox that installs ``packages``; empty where none is needed.
        packages: What must be importable.
    """

    name: str
    purpose: str
    storages: Mapping[int, Storage]
    options: tuple[str, ...]
    arguments: str
    loaded: str = ""
    extra: str = ""
    packages: tuple[str, ...] = ()

    @property
    def trainable_bits(self) -> tuple[int, ...]:
        """Numbers of bits that an adapter can be trained on."""
        return tuple(bits for bits, storage in self.storages.items() if not storage.untrainable)
