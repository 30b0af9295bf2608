"""A process that ends with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from runner.errors import MachineError

PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent: int) -> None:
    """End this process when process ``parent`` is killed, so that nobody works unasked.

    Ctrl-C reaches both: this process ends without a word, and the parent says what to do.

    Only Linux can do this; elsewhere the orphan finishes in a folder of its own, which the next
    run sweeps away.

    Raises:
        MachineError: the parent is gone already.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise MachineError("the run that started this evaluation has ended")
