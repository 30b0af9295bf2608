"""Programs written by a model, run in a subprocess with limits.

This backend limits resources; it is **not a sandbox**. It is meant for the answers of a model
trained on trusted data, such as the quickstart's.

Held: wall and CPU time, memory, size of written files, discarded output, an empty environment, an
own empty working folder that is deleted, the standard library as the only importable code, no new
processes or threads (for users other than root), the whole process group killed at the end, and
success that exiting early, printing a marker or `os._exit` cannot claim.

Not held: reading files that the user may read, writing outside the working folder, the network,
signals to the user's other processes, children that leave the process group when run as root, and
an answer that searches the interpreter for the harness's own file descriptors.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

BACKEND = "subprocess (limits only, not a sandbox)"

Outcome = Literal["passed", "failed", "stopped", "timed out"]

_MESSAGE_CHARACTERS = 300
# More than the longest honest report: the nonce, or one line of an error in UTF-8.
_REPORT_BYTES = 4 * _MESSAGE_CHARACTERS + 16

# Runs in the child. The payload comes first on standard input and the nonce after it. The nonce is
# read only when the tests have ended, so that it is nowhere in the process while the answer runs.
_HARNESS = f"""
import os, sys
def main(result):
    read, write, leave, run, build = os.read, os.write, os._exit, exec, compile
    def take(count):
        parts = []
        while count:
            part = read(0, count)
            if not part:
                leave(3)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
    import json, resource, types
    job = json.loads(take(int(take(8))))
    secret = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, limit in job["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    try:
        for part in ("source", "tests"):
            run(build(job[part], part, "exec"), module.__dict__)
    except Exception as error:
        line = (type(error).__name__ + ": " + str(error)).splitlines()[0]
        write(result, ("!" + line[:{_MESSAGE_CHARACTERS}]).encode("utf-8", "replace"))
    else:
        write(result, read(secret, 64))
    leave(0)
main(int(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Source that an answer gave, and the tests that run after it in the same namespace."""

    source: str
    tests: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use. ``processes`` counts new processes and threads."""

    seconds: int = 3
    memory_bytes: int = 512 * 1024 * 1024
    processes: int = 0
    file_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a program ended.

    ``passed``: the tests ran to their end. ``failed``: an exception, its first line in
    ``message``. ``stopped``: the process ended without a report (exit, crash, a limit).
    """

    outcome: Outcome
    message: str


def run_programs(
    programs: Sequence[Program], *, limits: Limits | None = None, workers: int | None = None
) -> list[Execution]:
    """Run every program in a process of its own, ``workers`` at a time, in the order given."""
    run = partial(run_program, limits=limits or Limits())
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1) as pool:
        return list(pool.map(run, programs))


def run_program(program: Program, *, limits: Limits) -> Execution:
    """Run one program and its tests; whatever it left running in its group is killed."""
    nonce = secrets.token_hex(32).encode()
    result, result_end = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="proofbox-program-") as folder:
            process = _start(result_end, folder)
            os.close(result_end)
            result_end = -1
            try:
                _send(process, program, limits, nonce)
                report = _receive(result, time.monotonic() + limits.seconds)
            finally:
                _end(process)
    finally:
        os.close(result)
        if result_end >= 0:
            os.close(result_end)
    return _judge(report, nonce, limits)


def _start(result_end: int, folder: str) -> subprocess.Popen[bytes]:
    # A fixed hash seed makes sets iterate alike in every run. It comes by the environment, which
    # holds nothing else; -I would ignore it, so its other two parts (-s -P) are given instead.
    flags = ("-s", "-P", "-S", "-B", "-X", "utf8")
    return subprocess.Popen(
        [sys.executable, *flags, "-c", _HARNESS, str(result_end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={"PYTHONHASHSEED": "0"},
        pass_fds=(result_end,),
        start_new_session=True,
    )


def _send(process: subprocess.Popen[bytes], program: Program, limits: Limits, nonce: bytes) -> None:
    resources = {
        "RLIMIT_AS": limits.memory_bytes,
        # Ends a program whose harness is gone; before that, the wall clock does.
        "RLIMIT_CPU": limits.seconds + 1,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_CORE": 0,
    }
    job = json.dumps({**asdict(program), "limits": resources}).encode()
    assert process.stdin is not None
    try:
        process.stdin.write(b"%8d" % len(job) + job + nonce)
        process.stdin.close()
    except BrokenPipeError:
        return  # The child died early; the missing report says so.


def _receive(result: int, deadline: float) -> bytes | None:
    """What the child reports, or None if the deadline passes first."""
    report = b""
    while len(report) < _REPORT_BYTES:
        remaining = deadline - time.monotonic()
        ready = select.select([result], [], [], max(remaining, 0.0))[0]
        if not ready:
            return None
        part = os.read(result, _REPORT_BYTES)
        if not part:
            break
        report += part
    return report


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own group: start_new_session
    process.wait()


def _judge(report: bytes | None, nonce: bytes, limits: Limits) -> Execution:
    if report is None:
        return Execution(outcome="timed out", message=f"no end within {limits.seconds} s")
    if secrets.compare_digest(report, nonce):
        return Execution(outcome="passed", message="")
    if report.startswith(b"!"):
        message = report[1:].decode("utf-8", "replace")[:_MESSAGE_CHARACTERS]
        return Execution(outcome="failed", message=message)
    return Execution(outcome="stopped", message="the process ended before its tests did")
