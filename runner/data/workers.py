"""Processes that make batches side by side; results come back in order, a few at a time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

from runner.data.batch_maker import BatchMaker, MadeBatch
from runner.errors import MachineError

# A process takes seconds to start and some memory; for fewer batches it is not worth it.
WORTH_A_PROCESS = 10
AHEAD = 2  # batches in work or waiting for each process

_batch_maker: BatchMaker | None = None  # of a worker process


def make_batches(batch_maker: BatchMaker, processes: int) -> Iterator[MadeBatch]:
    """Every batch of the stored rows, in order.

    Raises:
        MachineError: a process was killed, most likely for want of memory.
    """
    batches = batch_maker.stored.batches
    processes = min(processes, batches // WORTH_A_PROCESS)
    if processes < 2:  # noqa: PLR2004 - one process is this one
        yield from map(batch_maker.make, range(batches))
        return
    with ProcessPoolExecutor(
        max_workers=processes,
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(batch_maker, os.getpid()),
    ) as pool:
        try:
            yield from _in_order(pool, batches, processes * AHEAD)
        except BrokenProcessPool as error:
            if error.__cause__ is not None:  # it sent what cannot be read: a defect of ours
                raise
            raise MachineError(
                "a process that prepares data was killed. If the system ran out of memory, set "
                "hardware.threads to fewer. The same command starts again."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, batches: int, ahead: int) -> Iterator[MadeBatch]:
    waiting: deque[Future[MadeBatch]] = deque()
    for number in range(batches):
        with _deaf_to_keyboard():  # the first calls start the processes
            waiting.append(pool.submit(_make, number))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def _deaf_to_keyboard() -> Iterator[None]:
    """Processes started here never hear Ctrl-C, as they inherit; this one hears it afterwards.

    They could ignore it by themselves only once they have started, and would speak until then.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(batch_maker: BatchMaker, parent: int) -> None:
    """Make a new process ready: one thread of work, no keyboard, gone when its parent is."""
    global _batch_maker  # noqa: PLW0603 - what a worker process is for
    _batch_maker = batch_maker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent was killed: nobody else would."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _make(number: int) -> MadeBatch:
    if _batch_maker is None:
        raise RuntimeError("a worker process was not made ready")
    return _batch_maker.make(number)
