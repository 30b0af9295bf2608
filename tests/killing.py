"""Runs in processes of their own that are killed, and what must be the same in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runner.run_folder import RunFolder, open_run
from tests.conftest import ROOT


def start(recipe: Path, runs: Path, *options: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with a cache of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "run", str(recipe), "--runs", str(runs), *options],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PROOFBOX_CACHE": str(runs / "cache")},
    )  # fmt: skip


def finish(recipe: Path, runs: Path) -> dict[str, bytes]:
    """Run to the end and return what must not depend on how often it was killed."""
    assert start(recipe, runs).wait() in (0, 1, 3)
    run = open_run(runs / "tiny")
    assert not list(run.path.rglob(".*"))
    return contents(run)


def contents(run: RunFolder) -> dict[str, bytes]:
    files = [run.adapter / "adapter_model.safetensors", run.evidence, run.verdict]
    return {path.name: path.read_bytes() for path in files}


def kill_when(process: subprocess.Popen[bytes], begun: Callable[[], bool]) -> None:
    """SIGKILL to the parent alone, as a user's kill -9 does."""
    deadline = time.monotonic() + 120
    while not begun():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
