"""Examples of a batch end to end in one row, without padding; each attends to itself alone.

transformers looks its attention functions up by name and hands on to them what a model is called
with. So the ones registered here are told where the examples begin by keyword arguments of the
model's forward pass (``packed_inputs``), under the names that transformers itself uses. Nothing is
kept outside of the call: layers may be compiled, or computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from inspect import signature
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

from evalsuite.attention_kernels import (
    KERNELS,
    Heads,
    Kernel,
    PackedKernel,
    attend_by_example,
    packed_kernel,
    varlen_takes,
)
from evalsuite.kernel_choice import KernelChoice, LayerAttention, choose_kernel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = [
    "NAME",
    "Heads",
    "Kernel",
    "KernelChoice",
    "LayerAttention",
    "UnpackableError",
    "attending",
    "choose_kernel",
    "inner_model",
    "look_at_attention",
    "packed_inputs",
    "why_not_packed",
]

NAME = "proofbox_packed"
_PROBE = f"{NAME}_probe"
# Tensors that attention functions are told beside: where tokens are is in the queries already.
_TOLD = ("position_ids", "cache_position", "cu_seq_lens_q", "cu_seq_lens_k")


class UnpackableError(Exception):
    """The model's attention depends on something that the packed attention leaves out."""


def packed_inputs(
    lengths: Sequence[int], device: torch.device | str, *, longest: int | None = None
) -> dict[str, Any]:
    """What a model is called with, beside ``input_ids`` (1, T), to see examples of these lengths.

    It must be called without a mask and without a cache, while it is ``attending``.

    Args:
        lengths: Tokens of each example; T is their sum.
        device: The model's.
        longest: An upper bound of the lengths that stays the same from call to call, for layers
            that are compiled; by default the longest of these.
    """
    import torch

    edges = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    positions = torch.cat([torch.arange(length) for length in lengths])
    on_device = edges.to(device)
    most = max(lengths) if longest is None else longest
    return {
        "position_ids": positions.unsqueeze(0).to(device),  # (1, T), each example's from 0
        "cu_seq_lens_q": on_device,  # (examples + 1,)
        "cu_seq_lens_k": on_device,
        "max_length_q": most,
        "max_length_k": most,
    }


@contextmanager
def attending(model: PreTrainedModel, kernel: Kernel = "auto") -> Iterator[None]:
    """Have ``model`` look up the packed attention; what it used before comes back.

    It must hold for the backward pass too, where layers may be computed again. ``kernel`` is one
    of KERNELS; auto: PyTorch's own where it takes the model's heads, else example by example.
    """
    with _looking_up(_registered(kernel), inner_model(model)):
        yield


@contextmanager
def _looking_up(name: str, model: PreTrainedModel) -> Iterator[None]:
    """Have the parts of ``model`` look up the attention of this name."""
    configs = _configs(model)
    kept = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation_internal = name
    try:
        yield
    finally:
        for config, before in zip(configs, kept, strict=True):
            config._attn_implementation_internal = before


@cache
def _registered(kernel: Kernel) -> str:
    """The name under which transformers finds the packed attention with this kernel.

    Once only: compiled layers are compiled again when the registry changes.
    """
    import torch
    from transformers import AttentionInterface

    if kernel not in KERNELS:
        raise ValueError(f"{kernel!r} is no kernel; there are {', '.join(KERNELS)}")
    name = f"{NAME}_{kernel}"
    # A compiler would make a program for every number and every length of examples.
    one_by_one = torch.compiler.disable(attend_by_example)
    attention = partial(
        _attention,
        packed=packed_kernel(kernel),
        one_by_one=one_by_one,
        as_fits=kernel == "auto",
    )
    AttentionInterface.register(name, attention)
    return name


def _configs(model: PreTrainedModel) -> list[Any]:
    """The configurations that the model's parts look at, each once."""
    from transformers import PreTrainedModel

    found = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
    found.append(model.config.get_text_config())
    return list({id(config): config for config in found}.values())


def inner_model(model: PreTrainedModel) -> PreTrainedModel:
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
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    *,
    packed: PackedKernel | None,
    one_by_one: Callable[..., torch.Tensor],
    as_fits: bool = False,
    **others: Any,  # noqa: ANN401 - what transformers tells other attention functions
) -> tuple[torch.Tensor, None]:
    """Attention (1, T, H, D) of ``query`` (1, H, T, D) to ``key`` and ``value`` (1, G, T, D).

    Raises:
        UnpackableError: It depends on something else, such as attention sinks (``s_aux``).
    """
    import torch

    if cu_seq_lens_q is None or max_length_q is None:
        raise UnpackableError("its attention is not told where the examples begin")
    if attention_mask is not None or dropout:
        raise UnpackableError("its attention has a mask or dropout of its own")
    if others.get("is_causal", getattr(module, "is_causal", True)) is False:
        raise UnpackableError("its attention looks at what comes after a token")
    _refuse_unknown(others)
    heads = Heads(
        scaling=scaling,
        # A window that no example reaches is none: kernels are faster without.
        window=sliding_window if sliding_window and sliding_window < max_length_q else None,
        softcap=softcap,
    )
    fits = not as_fits or (query.is_cuda and varlen_takes(query, value, heads))
    if packed is None or not fits:
        return one_by_one(query, key, value, cu_seq_lens_q, heads=heads), None
    if query.dtype == torch.float32 and torch.is_autocast_enabled(query.device.type):
        half = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(half), key.to(half), value.to(half)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))  # (T, heads, D)
    return packed(q, k, v, cu_seq_lens_q, max_length_q, heads).unsqueeze(0), None


def _refuse_unknown(others: dict[str, Any]) -> None:
    import torch

    unknown = sorted(
        name
        for name, value in others.items()
        if isinstance(value, torch.Tensor) and name not in _TOLD
    )
    if unknown:
        raise UnpackableError(f"its attention depends on {', '.join(unknown)}")


def why_not_packed(model: PreTrainedModel, longest: int) -> str | None:
    """Why examples of up to ``longest`` tokens cannot be packed for ``model``; None if they can."""
    try:
        look_at_attention(model, longest)
    except UnpackableError as reason:
        return str(reason)
    return None


def look_at_attention(model: PreTrainedModel, longest: int) -> tuple[LayerAttention, ...]:
    """How the layers of ``model`` attend, in examples of up to ``longest`` tokens.

    It must be in the mode in which it is to be run. No random numbers are used up.

    Raises:
        UnpackableError: examples cannot be packed. That is for decoders whose layers look at
            everything before a token, or at a window of it. What a model hands to its attention
            beside that (sinks, masks of its own, dropout) shows when it is run on a few tokens.
    """
    import torch

    inner = inner_model(model)
    against = _configured_otherwise(inner)
    if against is not None:
        raise UnpackableError(against)
    devices = [inner.device] if inner.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        seen = _seen_attention(inner, longest)
    against = _untold(inner.config.get_text_config(), [layer.heads for layer in seen], longest)
    if against is not None:
        raise UnpackableError(against)
    return seen


def _configured_otherwise(model: PreTrainedModel) -> str | None:
    """What its class and configuration say against packing."""
    config = model.config.get_text_config()
    if not model._can_set_attn_implementation():
        return f"{type(model).__name__} has attention of its own"
    kinds = {*(getattr(config, "layer_types", None) or ())}
    others = sorted(kinds - {"full_attention", "sliding_attention"})
    if others:
        return f"it has layers of kind {', '.join(others)}"
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder and a decoder"
    if "position_ids" not in signature(model.forward).parameters:
        return f"{type(model).__name__} takes no positions"
    return None


def _seen_attention(model: PreTrainedModel, longest: int) -> tuple[LayerAttention, ...]:
    """What each layer's attention is told of two examples of a few tokens."""
    import torch
    from transformers import AttentionInterface

    seen: list[LayerAttention] = []

    def note(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        edges: torch.Tensor,
        heads: Heads,
    ) -> torch.Tensor:
        seen.append(
            LayerAttention(
                heads=heads,
                queries=query.shape[1],
                keys=key.shape[1],
                width=query.shape[3],
                value_width=value.shape[3],
                dtype=query.dtype,
            )
        )
        return attend_by_example(query, key, value, edges, heads)

    AttentionInterface.register(_PROBE, partial(_attention, packed=None, one_by_one=note))
    lengths = (1, 2)
    tokens = torch.zeros((1, sum(lengths)), dtype=torch.long, device=model.device)
    inputs = packed_inputs(lengths, model.device, longest=longest)
    try:
        with _looking_up(_PROBE, model):
            model(input_ids=tokens, use_cache=False, **inputs)
    except TypeError as reason:
        if "cu_seq_lens" not in str(reason):
            raise
        name = type(model).__name__
        raise UnpackableError(
            f"{name} does not tell its attention where the examples begin"
        ) from reason
    return tuple(seen)


def _untold(config: Any, seen: Sequence[Heads], longest: int) -> str | None:  # noqa: ANN401 - any model's configuration
    """What the configuration declares and the layers' attention, as ``seen``, was not told of."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * len(seen)
    expected = kinds.count("sliding_attention") if window and window < longest else 0
    if [heads.window for heads in seen].count(window) < expected:
        return f"its attention is not told of its window of {window} tokens"
    cap = getattr(config, "attn_logit_softcapping", None)
    if cap is not None and any(heads.softcap != cap for heads in seen):
        return f"its attention is not told that its logits are capped at {cap:g}"
    return None
