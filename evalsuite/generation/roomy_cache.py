"""Keys and values of the tokens so far, in memory that is asked for once.

transformers' own cache copies all of them to new memory for every token; and since each piece is
larger than the one that was freed before, a GPU's allocator asks the driver for it every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class RoomyLayer(DynamicLayer):
    """A layer's keys and values, (B, H, T, D) views of buffers with ``room`` for so many tokens.

    Whatever else transformers does to them (selecting rows, say) may put other tensors in their
    place: then the next token finds them outside the buffer, and they are copied into a new one.
    """

    def __init__(self, room: int) -> None:
        """Ask for no memory yet: what a token takes is known with the first."""
        super().__init__()  # type: ignore[no-untyped-call]  # transformers has no types here
        self.room = room
        self._buffers: list[torch.Tensor | None] = [None, None]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the keys and values (B, H, N, D) of new tokens; gives those of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        self.keys = self._appended(0, self.keys, key_states, length)
        self.values = self._appended(1, self.values, value_states, length)
        return self.keys, self.values

    def _appended(
        self, which: int, seen: torch.Tensor | None, new: torch.Tensor, length: int
    ) -> torch.Tensor:
        total = length + new.shape[-2]
        buffer = self._buffers[which]
        if buffer is None or total > buffer.shape[-2] or not _lies_in(seen, buffer):
            buffer = new.new_empty(*new.shape[:-2], max(total, self.room), new.shape[-1])
            if seen is not None and length:
                buffer[..., :length, :] = seen
            self._buffers[which] = buffer
        buffer[..., length:total, :] = new
        return buffer[..., :total, :]


def _lies_in(seen: torch.Tensor | None, buffer: torch.Tensor) -> bool:
    """Whether ``seen`` is the beginning of ``buffer``, and of all of its rows."""
    if seen is None:
        return False
    same = seen.data_ptr() == buffer.data_ptr() and seen.stride() == buffer.stride()
    return same and seen.shape[0] == buffer.shape[0]


def roomy_cache(model: PreTrainedModel, room: int) -> DynamicCache | None:
    """A cache for sequences of at most ``room`` tokens; None where a layer is of another kind.

    A layer with a sliding window no shorter than ``room`` never slides, and is a full one.
    """
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    if not cache.layers or not all(_never_slides(layer, room) for layer in cache.layers):
        return None
    cache.layers = [RoomyLayer(room) for _ in cache.layers]
    return cache


def _never_slides(layer: Any, room: int) -> bool:  # noqa: ANN401 - any layer of transformers
    if type(layer) is DynamicSlidingWindowLayer:
        return bool(layer.sliding_window >= room)
    return type(layer) is DynamicLayer
