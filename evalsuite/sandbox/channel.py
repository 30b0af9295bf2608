"""Bytes to and from a process that may stop reading or writing: every wait has a deadline."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass

from evalsuite.sandbox.backend import Process

_PART = 65536


class TooLate(Exception):  # noqa: N818 - how a program ended, and no error of ours
    """The deadline passed."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The two pipes of a process, used until ``deadline`` (`time.monotonic`)."""

    process: Process
    deadline: float

    def send(self, content: bytes) -> bool:
        """Write all of ``content``; False if the process has closed its end.

        Raises:
            TooLate: It does not read.
        """
        assert self.process.stdin is not None
        pipe = self.process.stdin.fileno()
        os.set_blocking(pipe, False)
        rest = memoryview(content)
        while rest:
            self._wait([], [pipe])
            try:
                rest = rest[os.write(pipe, rest[:_PART]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def end_sending(self) -> None:
        """Close the process's standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def receive(self, most: int) -> bytes:
        """What comes until ``most`` bytes are there or the process closes its end.

        Raises:
            TooLate: Neither happens.
        """
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        found = b""
        while len(found) < most:
            self._wait([pipe], [])
            part = os.read(pipe, min(_PART, most - len(found)))
            if not part:
                break
            found += part
        return found

    def complaint(self) -> str:
        """What the process has written to standard error so far."""
        assert self.process.stderr is not None
        pipe = self.process.stderr.fileno()
        os.set_blocking(pipe, False)
        try:
            return " ".join(os.read(pipe, _PART).decode("utf-8", "replace").split())
        except BlockingIOError:
            return ""

    def _wait(self, readers: list[int], writers: list[int]) -> None:
        remaining = self.deadline - time.monotonic()
        readable, writable, _ = select.select(readers, writers, [], max(remaining, 0.0))
        if not (readable or writable):
            raise TooLate
