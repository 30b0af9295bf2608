"""Processes that make batches side by side; results come back in order, a few at a time.

Each process has a pipe of its own and nothing is shared, no lock and no thread: so whatever
happens, here (Ctrl-C, an error) or there (a kill), can leave nobody waiting. A process whose pipe
is closed ends by itself.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from runner.data.batch_maker import BatchMaker, MadeBatch
from runner.errors import MachineError

# A process takes seconds to start and some memory; for fewer batches it is not worth it.
WORTH_A_PROCESS = 10
AHEAD = 2  # batches in work or waiting for each process


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
    workers: list[_Worker] = []
    try:
        for _ in range(processes):
            _begin(workers, batch_maker)
        yield from _in_order(workers, batches)
    finally:
        for worker in workers:
            worker.end()


@dataclass(slots=True)
class _Worker:
    """A process, and the numbers of the batches that it was asked for and has not sent."""

    process: BaseProcess
    connection: Connection
    asked: deque[int] = field(default_factory=deque)

    def ask(self, number: int) -> None:
        """Ask for a batch. The pipe holds more numbers than are ever asked for: no waiting."""
        try:
            self.connection.send(number)
        except OSError:
            raise _killed() from None
        self.asked.append(number)

    def take(self) -> MadeBatch:
        """The batch that was asked for first; raises what making it raised."""
        try:
            sent = self.connection.recv_bytes()
        except (EOFError, OSError):
            raise _killed() from None
        self.asked.popleft()
        made, error, told = pickle.loads(sent)
        if error is not None:
            error.add_note(told)
            raise error
        batch: MadeBatch = made
        return batch

    def end(self) -> None:
        """Kill the process, whatever it does: nothing of what it has is wanted any more."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def _begin(workers: list[_Worker], batch_maker: BatchMaker) -> None:
    """Start a process that makes batches until its pipe is closed."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(batch_maker, there), daemon=True)
    with _deaf_to_keyboard():
        process.start()
        workers.append(_Worker(process, here))
    there.close()


def _in_order(workers: list[_Worker], batches: int) -> Iterator[MadeBatch]:
    numbers = iter(range(batches))
    ready: dict[int, MadeBatch] = {}
    for _ in range(AHEAD):
        for worker in workers:
            _ask_next(worker, numbers)
    for number in range(batches):
        while number not in ready:
            for worker in _with_results(workers):
                asked = worker.asked[0]
                ready[asked] = worker.take()
                if len(ready) < AHEAD * len(workers):
                    _ask_next(worker, numbers)
        yield ready.pop(number)
        for worker in workers:
            if len(worker.asked) < AHEAD:
                _ask_next(worker, numbers)


def _ask_next(worker: _Worker, numbers: Iterator[int]) -> None:
    number = next(numbers, None)
    if number is not None:
        worker.ask(number)


def _with_results(workers: list[_Worker]) -> list[_Worker]:
    """Wait for a result, and give the workers that have one, or that are gone."""
    readable = wait([worker.connection for worker in workers if worker.asked])
    return [worker for worker in workers if worker.connection in readable]


def _killed() -> MachineError:
    return MachineError(
        "a process that prepares data was killed. If the system ran out of memory, set "
        "hardware.threads to fewer. The same command starts again."
    )


@contextmanager
def _deaf_to_keyboard() -> Iterator[None]:
    """Processes started here never hear Ctrl-C, as they inherit; this one hears it afterwards.

    They could ignore it by themselves only once they have started, and would speak until then.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Where it is first needed is in the middle of starting a process, and it then unblocks.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def lasting_objects() -> Iterator[None]:
    """Spare the garbage collector what is there by now: libraries, a tokenizer.

    It would go through those hundreds of thousands of objects again and again while rows come and
    go, which takes a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


# In the process


def _work(batch_maker: BatchMaker, connection: Connection) -> None:
    """Send each batch that is asked for, until the other end of the pipe is closed."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with lasting_objects():
            while True:
                connection.send_bytes(_made(batch_maker, connection.recv()))
    except (EOFError, OSError):
        return  # whoever asked is gone


def _made(batch_maker: BatchMaker, number: int) -> bytes:
    """A batch, or the error that making it raised and where."""
    try:
        return pickle.dumps((batch_maker.make(number), None, ""), protocol=5)
    except Exception as error:  # noqa: BLE001 - all errors are raised where the batch is asked for
        told = traceback.format_exc()
        return _sendable(error, told)


def _sendable(error: Exception, told: str) -> bytes:
    try:
        sent = pickle.dumps((None, error, told))
        pickle.loads(sent)
    except Exception:  # noqa: BLE001 - whatever an error's own code raises
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), told))
    return sent
