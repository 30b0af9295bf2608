"""Many programs run in parallel, each in a sandbox of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial

from evalsuite.records import CodeExecution
from evalsuite.sandbox.backend import Backend, load_backend, running_in
from evalsuite.sandbox.channel import Channel, TooLate
from evalsuite.sandbox.limits import clock_seconds
from evalsuite.sandbox.program import Execution, Program
from evalsuite.sandbox.protocol import REPORT_BYTES, begin, judged, new_nonce, out_of_time
from evalsuite.sandbox.relay import run_apart

# A sandbox waits for the kernel about as long as it computes.
_WORKERS_PER_CORE = 2


def run_programs(
    programs: Sequence[Program], execution: CodeExecution, *, workers: int | None = None
) -> list[Execution]:
    """Run every program in a sandbox of its own; the results are in the programs' order.

    Args:
        programs: What is run.
        execution: Backend and limits.
        workers: Programs at a time; two for each core that this process may use if None.

    Raises:
        SandboxError: A sandbox did not start: nothing is known about its program.
    """
    run_one = run_apart if execution.tests == "apart" else run_together
    run = partial(run_one, backend=load_backend(execution.backend), execution=execution)
    with ThreadPoolExecutor(max_workers=workers or _WORKERS_PER_CORE * _cores()) as pool:
        return list(pool.map(run, programs))


def run_together(program: Program, *, backend: Backend, execution: CodeExecution) -> Execution:
    """Run an answer and then its tests in one process of one sandbox."""
    nonce = new_nonce()
    job = {**asdict(program), "role": "", "limits": backend.limits(execution)}
    with running_in(backend, execution) as process:
        begin(process, job, backend, nonce=nonce)
        channel = Channel(process, time.monotonic() + clock_seconds(execution))
        channel.end_sending()
        try:
            return judged(channel.receive(REPORT_BYTES), nonce)
        except TooLate:
            return out_of_time(execution)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has no such thing
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
