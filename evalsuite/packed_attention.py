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
# What attention functions are told of where tokens are: it is in the queries and keys already.
_PLACES = ("position_ids", "cache_position")
_WIDEST_HEAD, _HEAD_STEP = 256, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where the examples lie: ``lengths`` in tokens, ``edges`` (examples + 1) on the device."""

    lengths: tuple[int, ...]
    edges: torch.Tensor


_LAYOUT: ContextVar[_Layout] = ContextVar("proofbox packed layout")


class UnpackableError(Exception):
    """The model's attention depends on something that the packed attention leaves out."""


def why_not_packed(model: PreTrainedModel, longest: int) -> str | None:
    """Why examples of up to ``longest`` tokens cannot be packed for ``model``; None if they can.

    Packing is for decoders whose layers all look at everything before a token, without a cap on
    the attention's logits. A sliding window is no obstacle where no example is as long. What a
    model hands to its attention beside that (sinks, masks of its own) shows when it is run on a few
    tokens; it must be in the mode in which it is to be run.
    """
    return _configured_otherwise(model, longest) or _attends_otherwise(model)


def _configured_otherwise(model: PreTrainedModel, longest: int) -> str | None:
    """What its class and configuration say against packing."""
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


def _attends_otherwise(model: PreTrainedModel) -> str | None:
    """What its attention is told against packing, found out with two examples of a few tokens."""
    import torch

    inner = _inner(model)
    if "position_ids" not in signature(inner.forward).parameters:
        return f"{type(inner).__name__} takes no positions"
    lengths = (1, 2)
    tokens = torch.zeros((1, sum(lengths)), dtype=torch.long, device=model.device)
    try:
        with torch.inference_mode(), packed(model, lengths) as positions:
            model(input_ids=tokens, position_ids=positions, use_cache=False)
    except UnpackableError as reason:
        return str(reason)
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
    **others: Any,  # noqa: ANN401 - what transformers tells other attention functions
) -> tuple[torch.Tensor, None]:
    """Attention (1, T, H, D) of ``query`` (1, H, T, D) to ``key`` and ``value`` (1, G, T, D).

    Raises:
        UnpackableError: It depends on something else, such as attention sinks (``s_aux``).
    """
    import torch

    if attention_mask is not None or dropout:
        raise UnpackableError("its attention has a mask or dropout of its own")
    unknown = sorted(
        name
        for name, value in others.items()
        if isinstance(value, torch.Tensor) and name not in _PLACES
    )
    if unknown:
        raise UnpackableError(f"its attention depends on {', '.join(unknown)}")
    layout = _LAYOUT.get()
    if query.is_cuda and kernel_takes(query, value):
        return _by_kernel(query, key, value, layout, scaling), None
    return _one_by_one(query, key, value, layout, scaling), None


def kernel_takes(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether PyTorch's variable-length kernel takes such heads (FlashAttention-2's limits).

    Args:
        query: (1, H, T, D).
        value: (1, G, T, E): some models' values are narrower than their queries.
    """
    import torch

    width = query.shape[-1]
    fits = width == value.shape[-1] and width <= _WIDEST_HEAD and width % _HEAD_STEP == 0
    return fits and query.dtype in (torch.float16, torch.bfloat16)


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
