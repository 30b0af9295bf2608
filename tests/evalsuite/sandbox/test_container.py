"""Argument lists and refusals: no container engine runs where these tests do."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from evalsuite.records import CodeExecution
from evalsuite.sandbox import Program, run_programs
from evalsuite.sandbox.container import Container, _ask
from evalsuite.sandbox.docker import Docker
from evalsuite.sandbox.interpreter import HARNESS
from evalsuite.sandbox.podman import Podman

EXECUTION = CodeExecution(
    backend="docker", memory_mb=100, disk_mb=10, processes=3, image="registry/python:3"
)


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A command of that name that keeps its arguments and runs what it is given unconfined."""
    script = (
        "#!/bin/sh\n"
        f'echo "$@" | head -n 1 >> {tmp_path}/asked\n'
        'while [ $# -gt 0 ] && [ "$1" != --entrypoint ]; do shift; done\n'
        f"[ $# -gt 0 ] || exec echo 27.1\n"
        f'cd {tmp_path}; shift 3; exec python3 "$@"\n'
    )
    file = tmp_path / str(request.param)
    file.write_text(script)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    _ask.cache_clear()
    return str(request.param)


@pytest.mark.parametrize("backend", [Docker(), Podman()], ids=["docker", "podman"])
def test_the_container_is_closed(
    backend: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Container, "executable", lambda self: self.name)
    command = backend.command(EXECUTION, "a-name")
    assert command[:4] == [backend.name, "run", "--name", "a-name"]
    pairs = dict(pairwise(command))
    expected = {
        "--network": "none", "--pull": "never", "--cap-drop": "ALL", "--user": "65534:65534",
        "--security-opt": "no-new-privileges", "--memory": "110m", "--memory-swap": "110m",
        "--pids-limit": "35", "--cpus": "1", "--workdir": "/work", "--ipc": "none",
        "--tmpfs": "/work:rw,nosuid,nodev,mode=1777,size=10485760", "--entrypoint": "python",
        "--log-driver": "none",
    }  # fmt: skip
    assert {name: pairs[name] for name in expected} == expected
    assert {"--read-only", "--rm", "--interactive"} <= set(command)
    assert not {"--volume", "--mount", "--privileged", "-v"} & set(command)
    image = command.index("registry/python:3")
    assert command[image + 1 :][-1] == HARNESS.read_text()


def test_new_processes_are_the_container_s_to_count() -> None:
    assert "RLIMIT_NPROC" not in Docker().limits(EXECUTION)
    assert Docker().limits(CodeExecution(backend="docker"))["RLIMIT_NPROC"] == 0


def test_the_harness_speaks_through_the_engine_s_client(engine: str, tmp_path: Path) -> None:
    execution = CodeExecution(backend=engine, image="mine", seconds=1)
    programs = [
        Program(source="x = 1", tests=test)
        for test in ("assert x == 1", "assert x == 2", "import time\ntime.sleep(60)")
    ]
    done = run_programs(programs, execution, workers=1)
    assert [d.outcome for d in done] == ["passed", "failed", "timed out"]
    asked = (tmp_path / "asked").read_text().splitlines()
    started = [line.split()[2] for line in asked if line.startswith("run")]
    removed = [line.split()[-1] for line in asked if line.startswith("rm --force")]
    assert len(set(started)) == 3 and removed == started
