"""What every backend can do, and the registry by which a recipe's name finds one."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import ClassVar

from evalsuite.catalogue import SANDBOXES
from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution

Process = subprocess.Popen[bytes]


class Backend(ABC):
    """A way to run one program apart from everything else on the machine."""

    name: ClassVar[str]
    # False where it limits what a program uses and not what it reaches: shown as unsafe.
    isolates: ClassVar[bool] = True

    @abstractmethod
    def version(self, execution: CodeExecution) -> str:
        """What it is, with its version: part of the evidence.

        Raises:
            SandboxError: It is not installed, or does not answer.
        """

    @abstractmethod
    def start(self, execution: CodeExecution) -> Iterator[Process]:
        """One process running the harness, with pipes for standard input and output.

        A generator that yields once, for `running_in`. Afterwards nothing of it runs any more.
        """

    @abstractmethod
    def limits(self, execution: CodeExecution) -> dict[str, int]:
        """The limits that the harness sets: name in the module `resource` -> value."""

    def refuse(self, execution: CodeExecution) -> None:
        """Refuse what this backend cannot hold here, before it is tried.

        Raises:
            SandboxError: A limit cannot be held, or the machine lacks something.
        """
        del execution

    def advice(self) -> str:
        """What to do where it is installed and does not work."""
        return ""


@contextmanager
def running_in(backend: Backend, execution: CodeExecution) -> Iterator[Process]:
    """The process of one program, for the time of the block."""
    yield from backend.start(execution)


@cache
def load_backend(name: str) -> Backend:
    """The backend of this name.

    Raises:
        SandboxError: There is none.
    """
    if name not in SANDBOXES:
        raise SandboxError(
            f"{name!r} is no backend for running code; there are {', '.join(SANDBOXES)}."
        )
    module, _, attribute = SANDBOXES[name].partition(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)()
    return backend


def start_process(
    command: Sequence[str],
    *,
    folder: str | None = None,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start ``command`` as the leader of a session of its own."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=None if environment is None else dict(environment),
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )


def end_process(process: Process) -> None:
    """Kill ``process`` with its group, reap it and close its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own group: start_new_session
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
