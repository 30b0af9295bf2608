"""Whether a backend works on this machine, found out before anything is trained."""

from __future__ import annotations

from pathlib import Path

from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution
from evalsuite.sandbox.backend import load_backend
from evalsuite.sandbox.program import Program
from evalsuite.sandbox.running import run_programs

# Sees whether the program is apart: this very file and other processes must be out of its reach.
_APART = """
import os, socket
assert not os.path.exists({here!r}), "it can read the files of this machine"
assert all(name == "lo" or not name.startswith(("eth", "en", "wl"))
           for _, name in socket.if_nameindex()), "it has the network of this machine"
for folder in ("/", "/usr/lib", "/tmp"):
    try:
        open(os.path.join(folder, "proofbox-was-here"), "x")
    except OSError:
        continue
    raise AssertionError("it can write to " + folder)
"""


def describe(execution: CodeExecution) -> str:
    """Backend with version and limits: part of the evidence, since scores depend on them.

    Raises:
        SandboxError: The backend is not installed, or does not answer.
    """
    return ", ".join(
        [
            load_backend(execution.backend).version(execution),
            f"tests {execution.tests}",
            f"{execution.seconds} s",
            f"{execution.memory_mb} MiB",
            f"{execution.processes} new processes",
            f"files of {execution.file_mb} MiB",
            f"{execution.disk_mb} MiB of files",
        ]
    )


def check_backend(execution: CodeExecution) -> str:
    """Run a trial under the very limits of the recipe, and give what `describe` gives.

    Nothing weaker is ever taken instead.

    Raises:
        SandboxError: The backend is missing, does not work here, or does not hold; what to do.
    """
    backend = load_backend(execution.backend)
    described = describe(execution)
    backend.refuse(execution)
    source = _APART.format(here=str(Path(__file__).resolve())) if backend.isolates else ""
    trials = [Program(source=source, tests="assert 1"), Program(source="", tests="assert 0")]
    right, wrong = run_programs(trials, execution, workers=1)
    if right.outcome != "passed":
        raise SandboxError(
            f"{backend.name} does not run a harmless program under the limits of "
            f"evaluation.code_execution: {right.outcome}, {right.message}. {backend.advice()}"
        )
    if wrong.outcome != "failed":
        raise SandboxError(f"{backend.name} lets a failing program end as: {wrong.outcome}.")
    return described
