"""Examples of a batch end to end in one row, without padding; each attends to itself alone.

transformers looks its attention functions up by name. The one registered here is told where the
examples begin by ``packed``, for the block of code that it guards. On CUDA in half precision it is
PyTorch's own variable-length kernel; elsewhere it is one call of scaled-dot-product attention for
each example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from inspect import signature
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NAME = "proofbox_packed"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where the examples lie: ``lengths`` in tokens, ``edges`` (examples + 1) on the device."""

    lengths: tuple[int, ...]
    edges: torch.Tensor


_LAYOUT: ContextVar[_Layout] = ContextVar("proofbox packed layout")


def why_not_packed(model: PreTrainedModel, longest: int) -> str | None:
    """Why examples of up to ``longest`` tokens cannot be packed for ``model``; None if they can.

    Packing is for decoders whose layers all look at everything before a token, without a cap on
    the attention's logits. A sliding window is no obstacle where no example is as long.
    """
    inner = _inner(model)
    config = inner.config.get_text_config()
    if not inner._can_set_attn_implementation():
        return f"{type(inner).__name__} has attention of its own"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "it caps the logits of its attention"
    window = getattr(config, "sliding_window", None)
    if window is not None and longest > window:
        return f"an example of {longest} tokens is longer than its window of {window}"
    kinds = {*(getattr(config, "layer_types", None) or ())}
    others = sorted(kinds - {"full_attention", "sliding_attention"})
    if others:
        return f"it has layers of kind {', '.join(others)}"
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder and a decoder"
    return None


@contextmanager
def packed(model: PreTrainedModel, lengths: Sequence[int]) -> Iterator[torch.Tensor]:
    """Let ``model`` see a row of tokens as examples of these ``lengths``, each by itself.

    Yields the position of every token in its example: (1, T). The model must be called with them
    as ``position_ids``, without a mask and without a cache.
    """
    import torch

    edges = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=model.device)
    positions = torch.cat([torch.arange(length) for length in lengths])
    token = _LAYOUT.set(_Layout(lengths=tuple(lengths), edges=edges))
    try:
        with _attending(_inner(model)):
            yield positions.unsqueeze(0).to(model.device)
    finally:
        _LAYOUT.reset(token)


@contextmanager
def _attending(model: PreTrainedModel) -> Iterator[None]:
    """Have ``model`` look up the packed attention; what it used before comes back."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    configs = _configs(model)
    kept = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        for config, before in zip(configs, kept, strict=True):
            config._attn_implementation_internal = before


def _configs(model: PreTrainedModel) -> list[Any]:
    """The configurations that the model's parts look at, each once."""
    from transformers import PreTrainedModel

    found = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
    found.append(model.config.get_text_config())
    return list({id(config): config for config in found}.values())


def _inner(model: PreTrainedModel) -> PreTrainedModel:
    """The model of transformers inside a wrapper of peft."""
    found = cast("Any", model)
    while hasattr(found, "get_base_model"):
        found = found.get_base_model()
    return cast("PreTrainedModel", found)


def _attention(  # noqa: PLR0917 - transformers calls it so
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,  # noqa: ANN401 - what transformers tells other attention functions
) -> tuple[torch.Tensor, None]:
    """Attention (1, T, H, D) of ``query`` (1, H, T, D) to ``key`` and ``value`` (1, G, T, D)."""
    import torch

    if attention_mask is not None or dropout:
        raise RuntimeError("packed examples were given a mask or dropout")
    layout = _LAYOUT.get()
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _by_kernel(query, key, value, layout, scaling), None
    return _one_by_one(query, key, value, layout, scaling), None


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: _Layout,
    scaling: float | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    longest = max(layout.lengths)
    options: dict[str, Any] = {"scale": scaling, "window_size": (-1, 0)}
    # The kernel shares a key's head among several queries'; since 2.12 it wants to be told so.
    if key.shape[1] != query.shape[1] and _asks_for_groups():
        options["enable_gqa"] = True
    found = varlen_attn(
        query[0].transpose(0, 1),  # (T, heads, D)
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        layout.edges,
        layout.edges,
        longest,
        longest,
        **options,
    )
    return cast("torch.Tensor", found).unsqueeze(0)


@cache
def _asks_for_groups() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in signature(varlen_attn).parameters


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: _Layout,
    scaling: float | None,
) -> torch.Tensor:
    import torch

    parts = (part.split(layout.lengths, dim=2) for part in (query, key, value))
    grouped = key.shape[1] != query.shape[1]
    found = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped
        )
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(found, dim=2).transpose(1, 2)
