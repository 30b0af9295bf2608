"""One program in two sandboxes: calls are carried from its tests to its answer, values back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NoReturn

from evalsuite.records import CodeExecution
from evalsuite.sandbox.backend import Backend, running_in
from evalsuite.sandbox.channel import Channel, TooLate
from evalsuite.sandbox.limits import MIB, clock_seconds
from evalsuite.sandbox.program import Execution, Program
from evalsuite.sandbox.protocol import REPORT_BYTES, begin, judged, new_nonce, out_of_time

_APART = Path(__file__).with_name("apart.py")
_LENGTH = 8  # digits before a message
_LARGEST_MESSAGE = 4 * MIB
# What the tests' process says first: a call, a wish for the nonce, a failure.
_CALL, _NONCE, _FAILURE = b"C", b"N", b"!"


class _Over(Exception):  # noqa: N818 - how a program ended, and no error of ours
    """One of the two has ended, with this report."""

    def __init__(self, report: bytes) -> None:
        self.report = report


def run_apart(program: Program, *, backend: Backend, execution: CodeExecution) -> Execution:
    """Run an answer in one sandbox and its tests in another."""
    common = {"apart": _APART.read_text("utf-8"), "limits": backend.limits(execution)}
    answer: dict[str, Any] = {**common, "role": "answering", "source": program.source}
    tests: dict[str, Any] = {**common, "role": "testing", "tests": program.tests}
    nonce = new_nonce()
    with running_in(backend, execution) as first, running_in(backend, execution) as second:
        begin(second, tests, backend)
        begin(first, answer, backend)
        deadline = time.monotonic() + clock_seconds(execution)
        try:
            _carry(Channel(first, deadline), Channel(second, deadline), nonce)
        except _Over as over:
            return judged(over.report, nonce)
        except TooLate:
            return out_of_time(execution)


def _carry(answer: Channel, tests: Channel, nonce: bytes) -> NoReturn:
    """Carry messages until one of the two has ended.

    Raises:
        _Over: That is so.
        TooLate: The deadline comes first.
    """
    while True:
        tests.send(_from_answer(answer))
        kind = tests.receive(1)
        if kind == _NONCE:
            tests.send(nonce)
            raise _Over(tests.receive(REPORT_BYTES))
        if kind != _CALL:
            raise _Over(kind + tests.receive(REPORT_BYTES))
        answer.send(_message(tests.receive(_LENGTH), tests))


def _from_answer(answer: Channel) -> bytes:
    """A message of the answer's process; a failure that it claims is believed, a success is not."""
    head = answer.receive(_LENGTH)
    if head.startswith(_FAILURE):
        raise _Over(head + answer.receive(REPORT_BYTES))
    return _message(head, answer)


def _message(head: bytes, channel: Channel) -> bytes:
    if not head.strip().isdigit() or int(head) > _LARGEST_MESSAGE:
        raise _Over(b"")
    body = channel.receive(int(head))
    if len(body) < int(head):
        raise _Over(b"")
    return head + body
