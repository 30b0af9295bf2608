"""The C library's heap, where activations lie on a CPU."""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE = 1 << 20


def return_freed_memory() -> bool:
    """Have large freed blocks go back to the system at once; False where it cannot be set.

    glibc keeps them for later, in pieces: a training with recomputed activations was seen to hold
    three times what was in use. Returning them costs a third of the speed, so it is for when
    memory matters. It holds for the whole process, and cannot be taken back.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGE) == 1)
