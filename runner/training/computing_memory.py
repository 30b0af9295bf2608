"""What computing a model's gradients takes, traced on the meta device: no values, no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from runner.training.last_layer import LearnedPlaces, gives_one_tensor, last_feed_forward
from runner.training.live_bytes import LiveBytes
from runner.training.supervised_loss import CHUNK_VALUES, summed_loss

if TYPE_CHECKING:
    from peft import PeftModel

Device = Literal["cuda", "cpu"]


class UntraceableError(Exception):
    """The model cannot run without values: what its layers do depends on them."""


_ATTENTION = "proofbox_traced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is computed at once: ``rows`` padded to ``width`` tokens, or one row end to end.

    ``supervised`` of the tokens are learned from. Where ``packed``, ``rows`` is 1.
    """

    rows: int
    width: int
    supervised: int
    packed: bool


def traced_bytes(model: PeftModel, batch: Batch, *, device: Device) -> int:
    """Most bytes that the gradients of ``batch`` take at once, beside weights and gradients.

    Args:
        model: On the meta device, with its adapter, in the types it will be trained in.
        batch: What is computed at once.
        device: Where it will be computed: kernels differ in what they keep.

    Raises:
        UntraceableError: the model does not run on the meta device.
    """
    known = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
            known.append(parameter.grad)
    model.train()
    if device == "cuda":
        fuse_dropout(model)
    counted = LiveBytes(known)
    try:
        narrowed = _narrowed(model, batch) if device == "cpu" else nullcontext()
        with _traced_attention(model, batch, device), narrowed, counted:
            _loss(model, batch, device).backward()
    except (RuntimeError, NotImplementedError) as error:
        raise UntraceableError(str(error).splitlines()[0]) from error
    return counted.peak


@contextmanager
def _narrowed(model: PeftModel, batch: Batch) -> Iterator[None]:
    """As layers compute that are not compiled, which they are not on a CPU."""
    module = last_feed_forward(cast("Any", model.get_base_model()))
    if not gives_one_tensor(module, model.config.get_text_config().hidden_size):
        yield
        return
    learned = LearnedPlaces(module)
    try:
        with learned.at(torch.empty(batch.supervised, dtype=torch.long, device="meta")):
            yield
    finally:
        if module is not None:
            del cast("Any", module).forward


def _loss(model: PeftModel, batch: Batch, device: Device) -> torch.Tensor:
    inner = cast("Any", model.get_base_model())
    tokens = torch.empty(batch.rows, batch.width, dtype=torch.long, device="meta")
    given = {"position_ids": torch.empty_like(tokens)} if batch.packed else {}
    places = torch.empty(batch.supervised, dtype=torch.long, device="meta")
    hidden = inner.base_model(input_ids=tokens, use_cache=False, **given).last_hidden_state
    head = inner.get_output_embeddings()
    return summed_loss(
        hidden.flatten(0, 1)[places],
        places,
        head,
        _capping(inner.config),
        chunk=max(1, CHUNK_VALUES[device] // head.weight.shape[0]),
    )


def _capping(config: Any) -> Callable[[torch.Tensor], torch.Tensor]:  # noqa: ANN401 - any model's
    cap = getattr(config.get_text_config(), "final_logit_softcapping", None)
    return lambda logits: logits if cap is None else torch.tanh(logits / cap) * cap


def compute_as_autocast(model: PeftModel, dtype: torch.dtype) -> None:
    """Have float32 adapters compute as under autocast, which knows no meta device.

    PEFT hands them their input as float32, of which autocast then makes a copy for each product.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.weight.requires_grad:
            module.to(dtype)
            module.register_forward_pre_hook(lambda _, given: (given[0].float().to(dtype),))
        elif isinstance(module, torch.nn.Dropout):
            module.register_forward_pre_hook(lambda _, given: (given[0].float(),))


def fuse_dropout(model: PeftModel) -> None:
    """A GPU keeps a byte for each value that may be dropped; elsewhere it is the value's factor."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p > 0:
            cast("Any", module).forward = _FusedDropout.apply


class _FusedDropout(torch.autograd.Function):
    """What the kernel makes and keeps."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - torch's own
        ctx.save_for_backward(torch.empty_like(given, dtype=torch.bool))
        return torch.empty_like(given)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - torch's own
        """The gradient of what was given."""
        del ctx
        return torch.empty_like(upstream)


@contextmanager
def _traced_attention(model: PeftModel, batch: Batch, device: Device) -> Iterator[None]:
    """Have the model attend by a function that keeps what kernels keep, and nothing T by T."""
    from transformers import AttentionInterface, PreTrainedModel

    AttentionInterface.register(_ATTENTION, partial(_attend, batch, device))
    inner = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
    text = [config.get_text_config() for config in inner]
    configs = list({id(config): config for config in [*inner, *text]}.values())
    kept = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation_internal = _ATTENTION
    try:
        yield
    finally:
        for config, before in zip(configs, kept, strict=True):
            config._attn_implementation_internal = before


def _attend(  # noqa: PLR0917 - transformers calls it so
    batch: Batch,
    device: Device,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **others: Any,  # noqa: ANN401 - what transformers tells attention functions
) -> tuple[torch.Tensor, None]:
    """Attention (R, T, H, D) of ``query`` (R, H, T, D) to ``key`` and ``value`` (R, G, T, D)."""
    del module, attention_mask, others
    groups = query.shape[1] // key.shape[1]
    by_example = batch.packed and (device == "cpu" or query.dtype == torch.float32)
    # With a mask transformers writes shared heads out; on a GPU so does attention by examples.
    if groups > 1 and (not batch.packed or (by_example and device == "cuda")):
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    kernel = cast("Callable[..., torch.Tensor]", _Kernel.apply)
    mask = None if batch.packed else query.new_empty(batch.rows, 1, batch.width, batch.width)
    if by_example:  # one after the other
        (query,), (key,), (value,) = (part.split(batch.width, 2) for part in (query, key, value))
        found = torch.cat([kernel(query, key, value, mask)], dim=2)
    else:
        found = kernel(query, key, value, mask)
    return found.transpose(1, 2).contiguous(), None


class _Kernel(torch.autograd.Function):
    """What a fused attention makes and keeps: its operands, its result, a logarithm each."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        rows, heads, width, _ = query.shape
        found = query.new_empty(rows, width, heads, value.shape[-1]).transpose(1, 2)
        logarithms = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, found, logarithms)
        return found

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        upstream: torch.Tensor,
    ) -> tuple[torch.Tensor | None, ...]:
        """Gradients of query, key and value."""
        del upstream
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
