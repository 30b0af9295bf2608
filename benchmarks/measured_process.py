"""A command run to its end, and what it took: seconds, processor seconds, memory.

The kernel's own accounting, as ``/usr/bin/time -v`` reports it, for the command with every process
that it started and waited for; and the memory of all its processes together, which no kernel
counts, from samples of ``/proc`` (Linux only).

Whoever calls this should have little memory itself: a process's peak begins with that of the
process that started it.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

INTERVAL = 0.5  # seconds between two samples
SHARED_EVERY = 8  # of so many samples one asks what is shared: the kernel walks all pages for it
KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a command took. Bytes of memory, seconds of time.

    ``largest_process`` is the peak of the largest process (time's "maximum resident set size").
    ``all_processes`` is the largest sum over all processes at one moment, in which a page that
    several processes share (all of a forked process at first) counts once for each of them. In
    ``all_pages``, sampled more rarely, it counts once. Pages of mapped files are in all three,
    though the system takes them back when it needs them.
    """

    seconds: float
    processor_seconds: float
    largest_process: int
    all_processes: int
    all_pages: int


@dataclass(slots=True)
class _Sampler:
    """Samples the memory of a session's processes until it is told to stop."""

    session: int
    all_processes: int = 0
    all_pages: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        for number in count():
            pids = _processes(self.session)
            total = sum(_bytes(pid, "status", "VmRSS") for pid in pids)
            self.all_processes = max(self.all_processes, total)
            if number % SHARED_EVERY == 0:
                total = sum(_bytes(pid, "smaps_rollup", "Pss") for pid in pids)
                self.all_pages = max(self.all_pages, total)
            if self.stopped.wait(INTERVAL):
                return


def _processes(session: int) -> list[int]:
    """The ids of the processes of a session, those whose parent is gone among them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # the name in brackets may hold anything; session is the 4th value after it
            text = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue  # it has ended
        if int(text.rpartition(")")[2].split()[3]) == session:
            found.append(int(folder.name))
    return found


def _bytes(pid: int, file: str, name: str) -> int:
    """A number of ``/proc/<pid>/<file>``; 0 if the process has ended."""
    try:
        lines = Path("/proc", str(pid), file).read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * KIB for line in lines if line.startswith(f"{name}:"))


def measure(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Measured:
    """Run ``command`` and wait for it; its output goes to ``log``.

    Raises:
        SystemExit: it failed; says how its output ends.
    """
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=dict(environment), stdout=output, stderr=output, start_new_session=True
        )
        sampler = _Sampler(process.pid)
        thread = threading.Thread(target=sampler.run)
        thread.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    sampler.stopped.set()
    thread.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = log.read_text(errors="replace")[-3000:]
        raise SystemExit(f"{' '.join(command)}\nended with exit code {process.returncode}:\n{end}")
    return Measured(
        seconds=round(seconds, 2),
        processor_seconds=round(usage.ru_utime + usage.ru_stime, 2),
        largest_process=usage.ru_maxrss * KIB,
        all_processes=sampler.all_processes,
        all_pages=sampler.all_pages,
    )
