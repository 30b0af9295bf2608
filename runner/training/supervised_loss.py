"""Cross-entropy where tokens are supervised, without logits anywhere else.

The decoder gives hidden states; those that predict a supervised token go through the language-model
head in chunks, so that the logits of a large vocabulary never exist all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from runner.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits that exist at once, by kind of device: large products on a GPU, the cache on a CPU.
CHUNK_VALUES = {"cuda": 2**27, "cpu": 2**22}
_PROBE_TOKENS = 4
# What model families do to their logits: configuration key -> whether they divide by it.
_SCALES = {
    "logit_scale": False,
    "output_multiplier": False,
    "lm_head_multiplier": False,
    "logits_scaling": True,
}
Transform = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """Which positions of a batch are learned from: K ``places`` in its R·T tokens, flattened.

    The hidden state at a place predicts the next token, whose id is in ``targets`` (K,).
    """

    places: torch.Tensor
    targets: torch.Tensor


def give_loss(model: PreTrainedModel) -> None:
    """Let ``model(..., supervised=Supervised)`` return the summed loss, in nats, as a scalar.

    Without that argument its forward pass is what it was. ``model`` is the one inside a wrapper.

    Raises:
        UsageError: its logits are not what its head makes of its decoder's hidden states.
    """
    decoder, head = model.base_model, model.get_output_embeddings()
    if decoder is model or head is None:
        raise UsageError(_unknown(model))
    transform = _transform_of(model)
    plain = model.forward

    @wraps(plain)
    def forward(*args: Any, supervised: Supervised | None = None, **kwargs: Any) -> Any:  # noqa: ANN401 - the model's own signature
        if supervised is None:
            return plain(*args, **kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        hidden = decoder(*args, use_cache=False, **given).last_hidden_state  # (R, T, H)
        chosen = hidden.flatten(0, 1)[supervised.places]  # (K, H)
        return summed_loss(chosen, supervised.targets, head, transform)

    cast("Any", model).forward = forward


def summed_loss(
    hidden: torch.Tensor,
    targets: torch.Tensor,
    head: torch.nn.Module,
    transform: Transform = lambda logits: logits,
    *,
    chunk: int | None = None,
) -> torch.Tensor:
    """Sum of the cross-entropy of ``targets`` (K,) under ``head(hidden)``, float32.

    Args:
        hidden: (K, H).
        targets: Token ids, (K,).
        head: Maps (n, H) to logits (n, V).
        transform: What the model does to its logits afterwards.
        chunk: Positions whose logits exist at once; by default as many as fit CHUNK_VALUES.
    """
    if chunk is None:
        chunk = _chunk_of(head, hidden.device.type)
    if any(parameter.requires_grad for parameter in head.parameters()):
        return _of_trained_head(hidden, targets, head, transform, chunk)
    loss_of = partial(_loss, head, transform)
    apply: Callable[..., torch.Tensor] = _FrozenHeadLoss.apply
    return apply(hidden, targets, loss_of, chunk)


def _chunk_of(head: torch.nn.Module, device: str) -> int:
    vocabulary = getattr(head, "out_features", None) or 2**16
    return max(1, CHUNK_VALUES.get(device, CHUNK_VALUES["cuda"]) // int(vocabulary))


def _loss(
    head: torch.nn.Module, transform: Transform, hidden: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    return cross_entropy(transform(head(hidden)).float(), targets, reduction="sum")


def _unmoved(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


class _FrozenHeadLoss(torch.autograd.Function):
    """The loss and, at once, its gradient for ``hidden``: logits are made and thrown away once."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        hidden: torch.Tensor,
        targets: torch.Tensor,
        loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        chunk: int,
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            # Of its own: activations that are moved elsewhere meanwhile are those of the layers.
            with torch.enable_grad(), saved_tensors_hooks(_unmoved, _unmoved):
                leaf = hidden[part].detach().requires_grad_()
                loss = loss_of(leaf, targets[part])
                (gradient[part],) = torch.autograd.grad(loss, leaf)
            total += loss.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        upstream: torch.Tensor,
    ) -> tuple[torch.Tensor, None, None, None]:
        """Scale the stored gradient (K, H)."""
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None, None


def _of_trained_head(
    hidden: torch.Tensor,
    targets: torch.Tensor,
    head: torch.nn.Module,
    transform: Transform,
    chunk: int,
) -> torch.Tensor:
    """As above where the head learns too: its logits are made again in the backward pass."""
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    losses = [
        checkpoint(partial(_loss, head, transform), part, target, use_reentrant=False)
        for part, target in parts
    ]
    return torch.stack(losses).sum()


def _transform_of(model: PreTrainedModel) -> Transform:
    """What the model does to its head's output, recognised by what it gives on a few tokens.

    Raises:
        UsageError: nothing known explains its logits.
    """
    tokens = torch.arange(_PROBE_TOKENS, device=model.device).unsqueeze(0)
    training = model.training
    model.eval()
    with torch.no_grad():
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        made = cast("Any", model.get_output_embeddings())(hidden)
        given = model(input_ids=tokens, use_cache=False).logits
    model.train(training)
    for transform in _candidates(model.config.get_text_config()):
        if _same(transform(made).float(), given.float(), given.dtype):
            return transform
    raise UsageError(_unknown(model))


def _same(found: torch.Tensor, given: torch.Tensor, dtype: torch.dtype) -> bool:
    allowed = 1e-4 if dtype == torch.float32 else 2e-2
    return bool((found - given).abs().max() <= allowed * given.abs().max())


def _candidates(config: Any) -> list[Transform]:  # noqa: ANN401 - any model's configuration
    """What the configuration declares comes first: small logits look the same under a cap."""
    scales = [
        (1 / value if divides else value)
        for key, divides in _SCALES.items()
        if isinstance(value := getattr(config, key, None), (int, float)) and value
    ]
    cap = getattr(config, "final_logit_softcapping", None)
    declared = [partial(_scaled_and_capped, scale=scale, cap=cap) for scale in (*scales, 1.0)]
    return [*declared, _unchanged]


def _unchanged(logits: torch.Tensor) -> torch.Tensor:
    return logits


def _scaled_and_capped(logits: torch.Tensor, *, scale: float, cap: float | None) -> torch.Tensor:
    logits = logits * scale
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _unknown(model: PreTrainedModel) -> str:
    return (
        f"model.base: {type(model).__name__} makes its logits in a way that is not known here, so "
        "its loss cannot be computed where there are labels alone. Known are a head on the "
        "decoder's hidden states, logits that are scaled, and logits that are soft-capped."
    )
