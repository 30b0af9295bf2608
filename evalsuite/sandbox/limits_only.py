"""Backend ``subprocess``: a process with limits. It is **not a sandbox** and is called unsafe.

Held: CPU and wall time, memory, size of files and of what is printed, an empty environment, an own
empty working folder that is deleted, the standard library as the only importable code unless the
answer looks for more, no new processes or threads (for users other than root, whom the kernel does
not count), the whole process group killed at the end.

Not held: reading what the user may read, writing outside the working folder, filling the disk with
many files, the network, signals to the user's other processes, and, as root, new processes and
those that leave the process group.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from typing import ClassVar

from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution
from evalsuite.sandbox.backend import Backend, Process, end_process, start_process
from evalsuite.sandbox.interpreter import ENVIRONMENT, harness_arguments, this_interpreter
from evalsuite.sandbox.limits import resource_limits


class LimitsOnly(Backend):
    """A subprocess of this Python with resource limits."""

    name: ClassVar[str] = "subprocess"
    isolates: ClassVar[bool] = False

    def version(self, execution: CodeExecution) -> str:
        """The name says that it is unsafe."""
        del execution
        return f"subprocess (unsafe: limits only), Python {platform.python_version()}"

    def refuse(self, execution: CodeExecution) -> None:
        """The kernel counts all processes of a user, so that only "none" can be held."""
        if execution.processes:
            raise SandboxError(
                "subprocess cannot limit new processes to a number, only to none; set "
                "evaluation.code_execution.processes to 0, or use bubblewrap."
            )

    def limits(self, execution: CodeExecution) -> dict[str, int]:
        """All of them; no new process."""
        return resource_limits(execution, processes=0)

    def start(self, execution: CodeExecution) -> Iterator[Process]:
        """The harness in a new folder, which is deleted afterwards."""
        del execution
        command = [str(this_interpreter().executable), *harness_arguments()]
        with tempfile.TemporaryDirectory(
            prefix="proofbox-program-", ignore_cleanup_errors=True
        ) as folder:
            process = start_process(command, folder=folder, environment=ENVIRONMENT)
            try:
                yield process
            finally:
                end_process(process)
