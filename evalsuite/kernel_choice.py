"""Which kernel computes the attention of examples end to end on this machine: the fastest here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalsuite.attention_kernels import (
    Heads,
    Kernel,
    half_heads,
    installed_kernels,
    packed_kernel,
)

if TYPE_CHECKING:
    import torch

# Another package's kernel has to be faster by so much: less may be chance.
_FASTER = 1.05
_TRIED_TOKENS = 8192
_WARM_UPS, _REPEATS = 3, 5
# What a kernel that was built for another PyTorch, or another device, fails with.
_UNFIT = (ImportError, OSError, RuntimeError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAttention:
    """Attention as a layer calls it: its heads of queries and of keys, their width and type."""

    heads: Heads
    queries: int
    keys: int
    width: int
    value_width: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChoice:
    """A kernel and why, as a part of a sentence."""

    kernel: Kernel
    reason: str


def choose_kernel(
    layers: Sequence[LayerAttention], *, longest: int, device: torch.device, measure: bool = True
) -> KernelChoice:
    """The fastest kernel that takes all ``layers``; without one, example by example.

    Args:
        layers: As the model's layers attend.
        longest: Tokens of the longest example.
        device: Where.
        measure: Whether kernels of other packages, where they are installed, are tried against
            PyTorch's own on made-up examples; otherwise they are not used where PyTorch's can be.
    """
    if device.type != "cuda":
        return KernelChoice(kernel="by_example", reason="each example by itself")
    if not all(half_heads(a.width, a.value_width, a.dtype) for a in layers):
        return KernelChoice(
            kernel="by_example",
            reason="each example by itself: kernels for examples end to end take heads of up to "
            "256 values in float16 or bfloat16",
        )
    capped = any(layer.heads.softcap is not None for layer in layers)
    candidates: list[Kernel] = [] if capped else ["varlen"]
    if measure or capped:
        candidates += installed_kernels()
    seconds, failed = _timed(candidates, layers, longest, device)
    return _fastest(seconds, failed, capped=capped)


def _fastest(seconds: dict[Kernel, float], failed: list[str], *, capped: bool) -> KernelChoice:
    """PyTorch's own unless another is clearly faster."""
    besides = f"; {'; '.join(failed)}" if failed else ""
    own = seconds.get("varlen")
    others = {kernel: took for kernel, took in seconds.items() if kernel != "varlen"}
    best = min(others, key=lambda kernel: others[kernel], default=None)
    if best is not None and (own is None or others[best] * _FASTER < own):
        faster = "" if own is None else f", {own / others[best]:.2f} times as fast as PyTorch's"
        return KernelChoice(kernel=best, reason=f"{best}{faster}{besides}")
    if own is not None:
        return KernelChoice(kernel="varlen", reason=f"PyTorch's own kernel{besides}")
    need = "flash-attn caps logits and is not installed" if capped and not failed else "no kernel"
    return KernelChoice(kernel="by_example", reason=f"each example by itself: {need}{besides}")


def _timed(
    candidates: Sequence[Kernel],
    layers: Sequence[LayerAttention],
    longest: int,
    device: torch.device,
) -> tuple[dict[Kernel, float], list[str]]:
    """Seconds of each kernel where there is more than one; and why others do not run here."""
    seconds: dict[Kernel, float] = {}
    failed: list[str] = []
    if candidates == ["varlen"]:  # nothing to compare it with
        return {"varlen": 0.0}, []
    for kernel in candidates:
        try:
            seconds[kernel] = sum(
                seconds_of(kernel, layer, longest=longest, device=device) for layer in {*layers}
            )
        except _UNFIT as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            failed.append(f"{kernel} is installed and does not run here ({told})")
    return seconds, failed


def seconds_of(
    kernel: Kernel, layer: LayerAttention, *, longest: int, device: torch.device
) -> float:
    """The shortest of some forward and backward passes over made-up examples.

    Half of the examples are as long as the longest, half a quarter of that.
    """
    import torch

    lengths = [longest, max(longest // 4, 1)] * max(_TRIED_TOKENS // (longest + longest // 4), 1)
    edges = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    rows = _made_up(layer, sum(lengths), device)
    function = packed_kernel(kernel)
    assert function is not None
    best = float("inf")
    for turn in range(_WARM_UPS + _REPEATS):
        _wait(device)
        start = time.perf_counter()
        found = function(*rows, edges, longest, layer.heads)
        torch.autograd.grad(found.sum(), rows)
        _wait(device)
        if turn >= _WARM_UPS:
            best = min(best, time.perf_counter() - start)
    return best


def _made_up(
    layer: LayerAttention, tokens: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries (T, H, D), keys (T, G, D) and values (T, G, E); no random numbers are drawn."""
    import torch

    def made(heads: int, width: int) -> torch.Tensor:
        values = torch.arange(tokens * heads * width, device=device, dtype=torch.float32).sin()
        return values.to(layer.dtype).view(tokens, heads, width).requires_grad_()

    return (
        made(layer.queries, layer.width),
        made(layer.keys, layer.width),
        made(layer.keys, layer.value_width),
    )


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
