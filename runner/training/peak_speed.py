"""What a device could compute at most, as its maker publishes it: the measure of utilisation."""

from __future__ import annotations

import re

# Name as CUDA gives it -> dense operations a second of matrix products in float16 and, where the
# device has it, bfloat16, accumulated in float32. From NVIDIA's data sheets: those that give the
# figure with sparsity are halved. A device that is not here has no known peak.
_PEAKS: tuple[tuple[str, float], ...] = (
    (r"NVIDIA GB200", 2500e12),
    (r"NVIDIA B200", 2250e12),
    (r"NVIDIA H200 NVL", 835.5e12),
    (r"NVIDIA H200", 989.4e12),
    (r"NVIDIA GH200 480GB", 989.4e12),
    (r"NVIDIA H100 NVL", 835.5e12),
    (r"NVIDIA H100 PCIe", 756e12),
    (r"NVIDIA H100 80GB HBM3", 989.4e12),
    (r"NVIDIA H800", 989.4e12),
    (r"NVIDIA H20", 148e12),
    (r"NVIDIA A100-(SXM4|PCIE)-(40|80)GB", 312e12),
    (r"NVIDIA A100 80GB PCIe", 312e12),
    (r"NVIDIA A800-SXM4-80GB", 312e12),
    (r"NVIDIA A800 80GB PCIe", 312e12),
    (r"NVIDIA A30", 165e12),
    (r"NVIDIA A10", 125e12),
    (r"NVIDIA A40", 149.7e12),
    (r"NVIDIA RTX A6000", 154.8e12),
    (r"NVIDIA L40S", 362e12),
    (r"NVIDIA L40", 181e12),
    (r"NVIDIA L4", 121e12),
    (r"NVIDIA GeForce RTX 4090", 165.2e12),
    (r"NVIDIA GeForce RTX 3090", 71e12),
    (r"Tesla V100-SXM2-(16|32)GB(-LS)?", 125e12),
    (r"Tesla T4", 65e12),
)
_WITHOUT_BFLOAT16 = ("Tesla V100", "Tesla T4")


def peak_operations(device_name: str, dtype: str) -> float | None:
    """Floating-point operations a second of ``device_name`` at most; None where it is not known.

    ``dtype`` is the type that the model computes in, ``bfloat16`` or ``float16``; of any other the
    peak depends on settings, and None is given.
    """
    if dtype not in ("bfloat16", "float16"):
        return None
    if dtype == "bfloat16" and device_name.startswith(_WITHOUT_BFLOAT16):
        return None
    return next((peak for name, peak in _PEAKS if re.fullmatch(name, device_name)), None)


def device_peak(device: str, dtype: str) -> float | None:
    """The peak of the device that this process trains on; None where it is not known."""
    if device != "cuda":
        return None
    import torch

    return peak_operations(torch.cuda.get_device_name(), dtype)
