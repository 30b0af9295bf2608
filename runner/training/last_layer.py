"""The last layer's feed-forward part, computed where something is learned and nowhere else.

What it gives elsewhere reaches no loss: after it come a norm and the head, which look at one token
at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROBED = 4  # tokens
_SAME = {torch.float32: 1e-4}
_ROUGHLY_SAME = 2e-2  # of half precision
# What a module fails with that takes more than hidden states, or gives more than a tensor.
_UNFIT = (TypeError, ValueError, RuntimeError, IndexError, AttributeError)


class LearnedPlaces:
    """Narrows a feed-forward module to places of a batch; outside of ``at`` it is as it was."""

    def __init__(self, module: torch.nn.Module | None) -> None:
        """Replace the forward pass of ``module``, if there is one."""
        self.places: torch.Tensor | None = None  # (K,), of the batch's R·T tokens
        if module is not None:
            self._plain = module.forward
            cast("Any", module).forward = self._forward

    @contextmanager
    def at(self, places: torch.Tensor) -> Iterator[None]:
        """Narrow to ``places`` (K,) meanwhile: forward and backward, as layers are recomputed."""
        self.places = places
        try:
            yield
        finally:
            self.places = None

    def _forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the module's own
        """Zeros (R, T, H) but for the places."""
        if self.places is None or args or kwargs:
            return self._plain(hidden, *args, **kwargs)
        rows = hidden.flatten(0, 1)
        found: torch.Tensor = self._plain(rows.index_select(0, self.places).unsqueeze(0))[0]
        return found.new_zeros(rows.shape).index_copy_(0, self.places, found).view(hidden.shape)


def narrow_last_layer(model: PreTrainedModel) -> LearnedPlaces:
    """Have the last layer's feed-forward part compute where told, if the logits there are the same.

    Args:
        model: The one inside a wrapper. Layers that are compiled must stay as they are: what
            changes from batch to batch would be compiled again.
    """
    module = last_feed_forward(model)
    if module is None:
        return LearnedPlaces(None)
    before = getattr(module.forward, "__self__", None)
    if isinstance(before, LearnedPlaces):  # of another engine on this model
        return before
    learned = LearnedPlaces(module)
    if _same_logits(model, learned):
        return learned
    del cast("Any", module).forward
    return LearnedPlaces(None)


def last_feed_forward(model: PreTrainedModel) -> torch.nn.Module | None:
    """The module, where the layers are known as a list and it is called ``mlp``."""
    layers = getattr(model.base_model, "layers", None)
    module = getattr(layers[-1], "mlp", None) if isinstance(layers, torch.nn.ModuleList) else None
    return module if isinstance(module, torch.nn.Module) else None


def gives_one_tensor(module: torch.nn.Module | None, width: int) -> bool:
    """Whether a module on the meta device takes hidden states alone and gives nothing else."""
    if module is None:
        return False
    hidden = torch.empty(1, _PROBED, width, device="meta", dtype=next(module.parameters()).dtype)
    try:
        with torch.no_grad():
            return isinstance(module(hidden), torch.Tensor)
    except _UNFIT:
        return False


def _same_logits(model: PreTrainedModel, learned: LearnedPlaces) -> bool:
    """By the whole model, on a few tokens: something after the module may mix them."""
    tokens = torch.arange(2 * _PROBED, device=model.device).view(2, _PROBED)
    places = torch.tensor([1, 3, 6], device=model.device)
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        with torch.no_grad():
            whole = model(input_ids=tokens, use_cache=False).logits
            with learned.at(places):
                part = model(input_ids=tokens, use_cache=False).logits
    except _UNFIT:
        return False
    finally:
        for module in training:
            module.training = True
    wanted, found = (logits.flatten(0, 1)[places] for logits in (whole, part))
    allowed = _SAME.get(model.dtype, _ROUGHLY_SAME) * wanted.abs().max()
    return bool((wanted - found).abs().max() <= allowed)
