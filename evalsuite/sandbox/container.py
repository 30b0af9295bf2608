"""What the backends ``podman`` and ``docker`` share: one container for each program.

Held: no network; a read-only file system, which is the image's; an own empty working folder in
memory with a limit on its size; memory, processes and CPU by the container's control group, and by
the harness's own limits; an unprivileged user, no capabilities, no new privileges; the engine's own
system call filter; an empty environment but for what the image sets. The container is removed at
the end.

A start takes some tenths of a second, where bubblewrap takes hundredths.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution
from evalsuite.sandbox.backend import Backend, Process, end_process, start_process
from evalsuite.sandbox.interpreter import ENVIRONMENT, harness_arguments
from evalsuite.sandbox.limits import MIB, resource_limits

_ANSWER_SECONDS = 60  # for an engine that has just been started
# The engine's own threads count while it starts a container. Where no new process is allowed,
# RLIMIT_NPROC says so more strictly.
_ENGINE_THREADS = 32


class Container(Backend):
    """One container for each program, run by the engine whose command is ``name``."""

    def version(self, execution: CodeExecution) -> str:
        """Engine with its version, image with its id."""
        engine = self.ask("version", "--format", self.version_format())
        image = image_of(execution)
        found = self.ask("image", "inspect", "--format", "{{.Id}}", image, missing=image)
        return f"{self.name} {engine}, image {image} ({found})"

    def version_format(self) -> str:
        """The engine's template for its own version."""
        return "{{.Server.Version}}"

    def advice(self) -> str:
        """What to look at."""
        return f"Try `{self.name} run --rm --pull never IMAGE python --version` by hand."

    def limits(self, execution: CodeExecution) -> dict[str, int]:
        """All; a number of processes above none is held by the container's own limit instead."""
        limits = resource_limits(execution, processes=0)
        if execution.processes:
            del limits["RLIMIT_NPROC"]
        return limits

    def start(self, execution: CodeExecution) -> Iterator[Process]:
        """The engine's client, attached to the harness in a container of a name of its own."""
        name = f"proofbox-{secrets.token_hex(8)}"
        process = start_process(self.command(execution, name))
        try:
            yield process
        finally:
            end_process(process)
            # Killing the client leaves the container running.
            subprocess.run(
                [self.executable(), "rm", "--force", name],
                capture_output=True, check=False, timeout=_ANSWER_SECONDS,
            )  # fmt: skip

    def command(self, execution: CodeExecution, name: str) -> list[str]:
        """The command line of one program."""
        memory = f"{execution.memory_mb + execution.disk_mb}m"
        work = f"/work:rw,nosuid,nodev,mode=1777,size={execution.disk_mb * MIB}"
        command = [self.executable(), "run", "--name", name, "--rm", "--interactive"]
        command += ["--pull", "never", "--log-driver", "none", "--network", "none"]
        command += ["--read-only", "--tmpfs", work, "--workdir", "/work"]
        command += ["--memory", memory, "--memory-swap", memory, "--cpus", "1"]
        command += ["--pids-limit", str(_ENGINE_THREADS + execution.processes), "--ipc", "none"]
        command += ["--user", "65534:65534", "--cap-drop", "ALL"]
        command += ["--security-opt", "no-new-privileges"]
        for key, value in ENVIRONMENT.items():
            command += ["--env", f"{key}={value}"]
        return [*command, "--entrypoint", "python", image_of(execution), *harness_arguments()]

    def executable(self) -> str:
        """Path of the engine's command."""
        found = shutil.which(self.name)
        if found is None:
            raise SandboxError(
                f"{self.name} is not installed: there is no such command on PATH. Install it, or "
                "name another backend."
            )
        return found

    def ask(self, *arguments: str, missing: str | None = None) -> str:
        """What the engine answers; ``missing`` is the image that a refusal is about."""
        return _ask(self.executable(), self.name, arguments, missing)


@cache
def _ask(executable: str, name: str, arguments: tuple[str, ...], missing: str | None) -> str:
    try:
        asked = subprocess.run(
            [executable, *arguments],
            capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SandboxError(f"{name} does not answer. Is its service running?") from None
    if asked.returncode == 0:
        return asked.stdout.strip()
    said = " ".join(asked.stderr.split())[-300:]
    if missing is not None:
        raise SandboxError(
            f"{name} has no image {missing} ({said}). Nothing is downloaded while code is run: "
            f"`{name} pull {missing}` first, or name another evaluation.code_execution.image."
        )
    raise SandboxError(
        f"{name} does not work here ({said}). Start its service, let this user use it, or name "
        "another backend."
    )


def image_of(execution: CodeExecution) -> str:
    """The recipe's image, or the official one of this Python's version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return execution.image or f"docker.io/library/python:{version}-slim"
