"""The two ends of a program's run, as the harness keeps them: how it begins, what its report says.

A harness says ``+`` when the answer's code is about to run. A sandbox in which it does not come to
that is an error of the machine's and never a wrong answer.
"""

from __future__ import annotations

import marshal
import secrets
import time
from typing import Any

from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution
from evalsuite.sandbox.backend import Backend, Process
from evalsuite.sandbox.channel import Channel, TooLate
from evalsuite.sandbox.harness import LONGEST_MESSAGE
from evalsuite.sandbox.limits import clock_seconds
from evalsuite.sandbox.program import Execution

# More than the longest honest report: the nonce, or one line of an error in UTF-8.
REPORT_BYTES = 4 * LONGEST_MESSAGE + 16
_NONCE_BYTES = 64
_STARTED = b"+"
# A sandbox that takes longer than this to start does not work.
_START_SECONDS = 60.0


def new_nonce() -> bytes:
    """What a harness must report for a pass; nothing in a program's reach says it beforehand."""
    return secrets.token_hex(_NONCE_BYTES // 2).encode()


def begin(process: Process, job: dict[str, Any], backend: Backend, *, nonce: bytes = b"") -> None:
    """Hand the job over, with the nonce behind it, and wait until the code is about to run.

    Raises:
        SandboxError: It does not come to that, which says nothing about the answer.
    """
    # Format 2 is read by every Python 3, should a container have another one.
    content = marshal.dumps(job, 2)
    channel = Channel(process, time.monotonic() + _START_SECONDS)
    try:
        channel.send(b"%8d" % len(content) + content + nonce)
        started = channel.receive(len(_STARTED)) == _STARTED
    except TooLate:
        started = False
    if not started:
        why = channel.complaint() or "it ended, or was silent, before the program began"
        raise SandboxError(f"{backend.name} did not start a sandbox: {why}. {backend.advice()}")


def judged(report: bytes, nonce: bytes) -> Execution:
    """What a report says."""
    if secrets.compare_digest(report, nonce):
        return Execution(outcome="passed", message="")
    if report.startswith(b"!"):
        message = report[1:].decode("utf-8", "replace")[:LONGEST_MESSAGE]
        return Execution(outcome="failed", message=message)
    return Execution(outcome="stopped", message="the process ended before its tests did")


def out_of_time(execution: CodeExecution) -> Execution:
    """What is known of a program that the clock ended."""
    message = f"no end within {clock_seconds(execution):.0f} s on the clock"
    return Execution(outcome="timed out", message=message)
