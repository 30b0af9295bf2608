from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evalsuite.records import CodeExecution
from evalsuite.sandbox import Execution, Program, run_programs
from tests.conftest import ROOT
from tests.evalsuite.sandbox.attacks import ATTACKS, Attack

BY_NAME = {attack.name: attack for attack in ATTACKS}


@dataclass
class Machine:
    """What an attack is after, and whether it got there."""

    secret: Path
    outside: Path
    server: socket.socket
    victim: subprocess.Popen[bytes]

    def aimed(self, attack: Attack) -> str:
        return attack.source.format(
            secret=str(self.secret),
            outside=str(self.outside),
            port=self.server.getsockname()[1],
            victim=self.victim.pid,
        )

    def was_reached(self) -> bool:
        try:
            self.server.accept()[0].close()
            return True
        except BlockingIOError:
            return False

    def assert_whole(self) -> None:
        assert not self.outside.exists()
        assert not self.was_reached()
        assert self.victim.poll() is None


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("A_TOKEN", "secret")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    with server:
        victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        yield Machine(secret, tmp_path / "outside", server, victim)
        victim.kill()
        victim.wait()


def attacked(attack: Attack, machine: Machine, execution: CodeExecution) -> Execution:
    started = time.perf_counter()
    program = Program(source=machine.aimed(attack), tests="assert True")
    done = run_programs([program], execution)[0]
    assert time.perf_counter() - started < 20
    return done


def programs_running() -> set[str]:
    """Processes that run a harness, wherever they went."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes()
        except OSError:
            continue
        if b"What runs inside a sandbox" in command:
            found.add(place.parent.name)
    return found


def assert_nothing_left() -> None:
    """Programs of tests that run beside this one end by themselves; what was left would not."""
    left = programs_running()
    deadline = time.monotonic() + 15  # longer than any program of a test may take
    while (left := left & programs_running()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == set()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_bubblewrap_holds_every_attack(
    attack: Attack, machine: Machine, bubblewrap: CodeExecution
) -> None:
    done = attacked(attack, machine, bubblewrap)
    assert done.outcome != "passed"
    assert_nothing_left()
    machine.assert_whole()


@pytest.mark.parametrize(
    "attack", [a for a in ATTACKS if a.by_subprocess != "not held"], ids=lambda attack: attack.name
)
def test_limits_hold_what_they_can(
    attack: Attack, machine: Machine, limits_only: CodeExecution
) -> None:
    if attack.by_subprocess == "not by root" and os.geteuid() == 0:
        pytest.skip("the kernel does not count the processes of root")
    assert attacked(attack, machine, limits_only).outcome != "passed"
    assert_nothing_left()
    machine.assert_whole()


@pytest.mark.parametrize(
    "attack", [a for a in ATTACKS if a.run_unheld], ids=lambda attack: attack.name
)
def test_what_is_called_not_held_is_not_held(
    attack: Attack, machine: Machine, limits_only: CodeExecution
) -> None:
    # And so an attack that bubblewrap holds is one that would have worked.
    assert attacked(attack, machine, limits_only).outcome == "passed"


def test_a_daemon_is_gone_and_never_writes(machine: Machine, bubblewrap: CodeExecution) -> None:
    attacked(BY_NAME["leaving a daemon behind"], machine, bubblewrap)
    time.sleep(2.5)
    machine.assert_whole()


def test_the_document_says_of_each_attack_what_the_tests_hold() -> None:
    text = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!Attack|---)(.+?) \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    expected = [(a.name, "held", "by design", a.by_subprocess) for a in ATTACKS]
    assert rows[: len(expected)] == expected
