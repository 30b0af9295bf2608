"""How many bytes tensors take at the worst moment of a computation, found without computing it.

On the meta device tensors have shapes and no values, so a model of any size is traced in seconds.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the storage of tensors that are made while it is entered, until nothing holds them.

    ``peak`` is the most there was at once, in bytes; what is ``known`` before is not counted.
    """

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        """Count all storage but that of ``known``."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.live = 0
        self.peak = 0
        self._counted: dict[int, weakref.finalize[..., Any] | None] = {
            _storage(tensor)._cdata: None for tensor in known
        }

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operation gives
        """Do the operation and count what it makes."""
        del types
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, torch.Tensor):
                self._count(_storage(value))
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._counted:
            return
        self._counted[key] = weakref.finalize(storage, self._forget, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        del self._counted[key]
        self.live -= size


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
