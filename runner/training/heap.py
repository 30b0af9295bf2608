"""The C library's heap, where activations lie on a CPU."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of glibc's malloc.h
_LARGE = 1 << 20
_LARGEST = 32 << 20  # what glibc takes as a threshold at most
_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Have up to 1 GB of freed blocks stay with this process; False where it cannot be set.

    Each step then takes the pages that the last one left, without asking the system for them again
    (3% of a step of the quickstart). The most memory that is held at once is no larger.
    """
    return _set(_TRIM_THRESHOLD, _KEPT) and _set(_MMAP_THRESHOLD, _LARGEST)


def return_freed_memory() -> bool:
    """Have large freed blocks go back to the system at once; False where it cannot be set.

    glibc keeps them for later, in pieces: a training with recomputed activations was seen to hold
    three times what was in use. Returning them costs a third of the speed, so it is for when
    memory matters. It holds for the whole process, and cannot be taken back.
    """
    return _set(_MMAP_THRESHOLD, _LARGE)


def _set(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(option, value) == 1)
