"""Backend ``bubblewrap``: name spaces of Linux, set up by ``bwrap``, as root or as anybody.

Held: no network but an own loopback; a read-only file system that holds this Python, its standard
library and the system's shared libraries, and nothing else; an own empty working folder in memory
with a limit on its size; no processes to be seen or signalled but its own, which end with it and
with the harness's parent; neither /proc nor /sys; no capabilities, no new privileges, no further
name spaces; an empty environment; CPU and wall time, memory, output and size of files by limits
that the program cannot raise; no new processes or threads by a system call filter, which binds root
too.

Not held by limits of the kernel's, because there is no control group: memory is limited by process,
so with ``processes: n`` a program can have n + 1 times as much; many empty files take memory of the
kernel until the clock ends the program. With ``processes`` above 0 the count is held by
RLIMIT_NPROC, which does not bind root: that is refused.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import ClassVar

from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution
from evalsuite.sandbox.backend import Backend, Process, end_process, start_process
from evalsuite.sandbox.interpreter import ENVIRONMENT, harness_arguments, this_interpreter
from evalsuite.sandbox.limits import MIB, resource_limits
from evalsuite.sandbox.system_calls import is_known_machine, system_call_filter

_INSTALL = (
    "Install it (package `bubblewrap` of Debian, Ubuntu, Fedora, Arch), or name another backend."
)
_OLDEST = (0, 8)  # --disable-userns, --size
_NOBODY = "65534"
# Processes of the sandbox itself that the kernel counts: bwrap's own, and the harness.
_OWN_PROCESSES = 2


class Bubblewrap(Backend):
    """One ``bwrap`` for each program."""

    name: ClassVar[str] = "bubblewrap"

    def version(self, execution: CodeExecution) -> str:
        """``bubblewrap 0.8.0, Python 3.11.7``."""
        del execution
        return f"{_version_text()}, Python {platform.python_version()}"

    def refuse(self, execution: CodeExecution) -> None:
        """It needs Linux, a known machine, a recent bwrap; and no processes for root."""
        if platform.system() != "Linux" or not is_known_machine():
            raise SandboxError(
                f"bubblewrap works on Linux with x86_64 or aarch64, and this is "
                f"{platform.system()} with {platform.machine()}; use podman or docker."
            )
        found = re.search(r"(\d+)\.(\d+)", _version_text())
        if found is None or (int(found[1]), int(found[2])) < _OLDEST:
            raise SandboxError(
                f"this is {_version_text()}, and 0.8 or newer is needed. Install a newer one, or "
                "name another backend."
            )
        if execution.processes and os.geteuid() == 0:
            raise SandboxError(
                "as root the kernel does not count processes, so bubblewrap can only forbid them; "
                "set evaluation.code_execution.processes to 0, or run as another user."
            )

    def advice(self) -> str:
        """What keeps name spaces from a user."""
        return (
            "The kernel must let this user make name spaces: see the sysctls "
            "kernel.unprivileged_userns_clone, user.max_user_namespaces and "
            "kernel.apparmor_restrict_unprivileged_userns; in a container they need "
            "--security-opt seccomp=unconfined or --privileged. Or name another backend."
        )

    def limits(self, execution: CodeExecution) -> dict[str, int]:
        """All of them; processes are counted in the sandbox's own user name space."""
        allowed = execution.processes
        return resource_limits(execution, processes=_OWN_PROCESSES + allowed if allowed else 0)

    def start(self, execution: CodeExecution) -> Iterator[Process]:
        """``bwrap`` with the harness inside it."""
        filter_end = _readable(system_call_filter(new_processes=execution.processes > 0))
        try:
            command = bubblewrap_command(execution, filter_end)
            process = start_process(command, environment={}, pass_fds=(filter_end,))
        finally:
            os.close(filter_end)
        try:
            yield process
        finally:
            end_process(process)


def bubblewrap_command(execution: CodeExecution, filter_descriptor: int) -> list[str]:
    """The command line: everything that the program may see is named in it."""
    python = this_interpreter()
    command = [_executable(), "--unshare-user", "--disable-userns"]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--hostname", "sandbox"]
    command += ["--uid", _NOBODY, "--gid", _NOBODY, "--cap-drop", "ALL"]
    command += ["--die-with-parent", "--new-session", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    for place in python.readable:
        command += ["--ro-bind", str(place), str(place)]
    for link, target in python.links:
        command += ["--symlink", target, str(link)]
    for place in python.hidden:
        command += ["--tmpfs", str(place), "--remount-ro", str(place)]
    for device in ("/dev/null", "/dev/urandom"):
        command += ["--dev-bind", device, device]
    command += ["--size", str(execution.disk_mb * MIB), "--tmpfs", "/work", "--chdir", "/work"]
    command += ["--remount-ro", "/", "--seccomp", str(filter_descriptor), "--"]
    return [*command, str(python.executable), *harness_arguments()]


def _readable(content: bytes) -> int:
    """A descriptor that gives ``content`` (at most a pipe's 64 KiB) and then ends."""
    read, write = os.pipe()
    with os.fdopen(write, "wb") as pipe:
        pipe.write(content)
    return read


@cache
def _executable() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(f"bubblewrap is not installed: there is no bwrap on PATH. {_INSTALL}")
    return found


@cache
def _version_text() -> str:
    asked = subprocess.run(
        [_executable(), "--version"], capture_output=True, text=True, check=False, timeout=10
    )
    return asked.stdout.strip()
