"""What computes causal attention of examples that lie end to end: kernels, or one after the other.

All of them are given queries and keys of T tokens and ``edges`` (examples + 1,), int32, between
which the examples lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import torch

Kernel = Literal["auto", "by_example", "varlen", "flash_attn", "flash_attn_3", "flash_attn_hub"]
KERNELS: tuple[Kernel, ...] = (
    "auto",
    "by_example",
    "varlen",
    "flash_attn",
    "flash_attn_3",
    "flash_attn_hub",
)
# Packages with FlashAttention's function for examples end to end, by the kernel's name here.
FLASH_MODULES = {"flash_attn": "flash_attn", "flash_attn_3": "flash_attn_interface"}
_HUB_BUILD = "kernels-community/flash-attn2"
_WIDEST_HEAD, _HEAD_STEP = 256, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What a layer's attention does beside being causal.

    ``scaling`` of the logits (None: 1/√D); a token sees the last ``window`` tokens, itself among
    them (None: all before it); logits are bent to stay within ±``softcap`` (None: they are not).
    """

    scaling: float | None = None
    window: int | None = None
    softcap: float | None = None


# Queries (T, H, D), keys and values (T, G, D), edges, the longest example, heads -> (T, H, D).
PackedKernel = Callable[
    ["torch.Tensor", "torch.Tensor", "torch.Tensor", "torch.Tensor", int, Heads], "torch.Tensor"
]


def packed_kernel(kernel: Kernel) -> PackedKernel | None:
    """The function of ``kernel``, that of auto being PyTorch's; None for one after the other.

    Raises:
        ImportError: the kernel's package is missing, or was built for another PyTorch.
    """
    if kernel == "by_example":
        return None
    return varlen_kernel() if kernel in ("auto", "varlen") else flash_kernel(kernel)


def varlen_takes(query: torch.Tensor, value: torch.Tensor, heads: Heads) -> bool:
    """Whether PyTorch's variable-length kernel takes such heads (FlashAttention-2's limits).

    Args:
        query: (1, H, T, D).
        value: (1, G, T, E): some models' values are narrower than their queries.
        heads: Caps on logits are not to be had.
    """
    fits = half_heads(query.shape[-1], value.shape[-1], query.dtype)
    return heads.softcap is None and fits


def half_heads(width: int, value_width: int, dtype: torch.dtype) -> bool:
    """Whether FlashAttention-2 takes heads of this width and type."""
    import torch

    fits = width == value_width and width <= _WIDEST_HEAD and width % _HEAD_STEP == 0
    return fits and dtype in (torch.float16, torch.bfloat16)


@cache
def varlen_kernel() -> PackedKernel:
    """PyTorch's own kernel. Its window counts the tokens before one."""
    from torch.nn.attention.varlen import varlen_attn

    # The kernel shares a key's head among several queries'; since 2.12 it wants to be told so.
    asks_for_groups = "enable_gqa" in signature(varlen_attn).parameters

    def attend(  # noqa: PLR0917 - a PackedKernel
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        edges: torch.Tensor,
        longest: int,
        heads: Heads,
    ) -> torch.Tensor:
        before = -1 if heads.window is None else heads.window - 1
        options: dict[str, Any] = {"scale": heads.scaling, "window_size": (before, 0)}
        if asks_for_groups and key.shape[1] != query.shape[1]:
            options["enable_gqa"] = True
        found = varlen_attn(query, key, value, edges, edges, longest, longest, **options)
        return cast("torch.Tensor", found)

    return attend


def installed_kernels() -> tuple[Kernel, ...]:
    """Kernels of other packages that are on this machine; nothing is fetched."""
    found: list[Kernel] = []
    if find_spec("flash_attn") is not None:
        found.append("flash_attn")
    if find_spec("flash_attn_interface") is not None:
        found.append("flash_attn_3")
    if find_spec("kernels") is not None and _hub_build_is_here():
        found.append("flash_attn_hub")
    return tuple(found)


def _hub_build_is_here() -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    if _HUB_BUILD in os.environ.get("LOCAL_KERNELS", ""):
        return True
    return any(Path(HF_HUB_CACHE).glob(f"*--{_HUB_BUILD.replace('/', '--')}"))


@cache
def flash_kernel(kernel: Kernel) -> PackedKernel:
    """FlashAttention's function as one of these kernels.

    Raises:
        ImportError: the package is missing, or was built for another PyTorch.
    """
    import torch

    function = _flash_module(kernel).flash_attn_varlen_func
    may_repeat = "deterministic" in signature(function).parameters

    def attend(  # noqa: PLR0917 - a PackedKernel
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        edges: torch.Tensor,
        longest: int,
        heads: Heads,
    ) -> torch.Tensor:
        before = -1 if heads.window is None else heads.window - 1
        options: dict[str, Any] = {} if heads.softcap is None else {"softcap": heads.softcap}
        if may_repeat:
            options["deterministic"] = torch.are_deterministic_algorithms_enabled()
        found = function(
            query,
            key,
            value,
            cu_seqlens_q=edges,
            cu_seqlens_k=edges,
            max_seqlen_q=longest,
            max_seqlen_k=longest,
            softmax_scale=heads.scaling,
            causal=True,
            window_size=(before, 0),
            **options,
        )
        # FlashAttention 3 gives the sums of its exponentials as well.
        return cast("torch.Tensor", found[0] if isinstance(found, tuple) else found)

    return attend


def _flash_module(kernel: Kernel) -> Any:  # noqa: ANN401 - a module of another package
    if kernel != "flash_attn_hub":
        return import_module(FLASH_MODULES[kernel])
    from kernels import get_kernel  # type: ignore[import-not-found]  # not needed otherwise
    from transformers.integrations.hub_kernels import get_attn_kernel_version

    return get_kernel(_HUB_BUILD, version=get_attn_kernel_version(_HUB_BUILD))


def attend_by_example(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    edges: torch.Tensor,
    heads: Heads,
) -> torch.Tensor:
    """Every example by itself: (1, T, H, D) of queries (1, H, T, D), keys and values (1, G, T, D).

    Anywhere and in any type. On a GPU every layer waits for ``edges``.
    """
    import torch

    lengths = edges.diff().tolist()
    parts = (part.split(lengths, dim=2) for part in (query, key, value))
    attend = _by_sdpa if heads.softcap is None else _by_formula
    found = [attend(q, k, v, heads) for q, k, v in zip(*parts, strict=True)]
    return torch.cat(found, dim=2).transpose(1, 2).contiguous()  # some models view it


def _by_sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: Heads
) -> torch.Tensor:
    import torch

    length, groups = query.shape[2], query.shape[1] // key.shape[1]
    if groups > 1 and query.dtype == torch.float32 and query.is_cuda:
        # No fused kernel shares a key's head in float32: the scores would be written out instead.
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    seen = None
    if heads.window is not None and heads.window < length:
        seen = _seen(length, heads.window, query.device)
    return torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=seen,
        is_causal=seen is None,
        scale=heads.scaling,
        enable_gqa=key.shape[1] != query.shape[1],
    )


def _by_formula(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: Heads
) -> torch.Tensor:
    """Attention with capped logits, as Gemma 2 has it (arXiv 2408.00118, section 2)."""
    import torch

    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    scaling = query.shape[3] ** -0.5 if heads.scaling is None else heads.scaling
    logits = query @ key.transpose(2, 3) * scaling  # (1, H, L, L)
    if heads.softcap is not None:
        logits = torch.tanh(logits / heads.softcap) * heads.softcap
    hidden = ~_seen(length, heads.window or length, query.device)
    weights = logits.masked_fill(hidden, -torch.inf).softmax(dim=-1, dtype=torch.float32)
    return weights.to(query.dtype) @ value


def _seen(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Whether a query (row) sees a key (column): (L, L)."""
    import torch

    back = torch.arange(length, device=device)
    distance = back[:, None] - back[None, :]
    return (distance >= 0) & (distance < window)
