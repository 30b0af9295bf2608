from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution
from evalsuite.sandbox import Execution, Program, run_programs
from evalsuite.sandbox.interpreter import this_interpreter


def run(execution: CodeExecution, source: str, tests: str = "assert True") -> Execution:
    return run_programs([Program(source=source, tests=tests)], execution)[0]


def test_tests_that_hold(execution: CodeExecution) -> None:
    assert run(execution, "def f(x):\n    return x + 1", "assert f(1) == 2").outcome == "passed"


def test_tests_that_do_not_hold(execution: CodeExecution) -> None:
    done = run(execution, "def f(x):\n    return x", "assert f(1) == 2, 'one'")
    assert done == Execution(outcome="failed", message="AssertionError: one")


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("exit(0)", "failed"),  # no such name without the site module
        ("raise SystemExit(0)", "stopped"),
        ("raise KeyboardInterrupt", "stopped"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "stopped"),
        ("print('passed')\nraise ValueError('no')", "failed"),
        ("def g(n):\n    return g(n + 1)\ng(0)", "failed"),
        ("def f(:", "failed"),
        ("", "passed"),
        ("import numpy", "failed"),  # the standard library alone
        ("import sqlite3, ssl, ctypes, decimal, zoneinfo, asyncio", "passed"),
        ("class E(Exception):\n    def __str__(self):\n        raise E\nraise E", "stopped"),
        ("raise ValueError('\\ud800 \\n two')", "failed"),
        ("print('x' * 900_000)", "passed"),
    ],
)
def test_accidents(execution: CodeExecution, source: str, outcome: str) -> None:
    assert run(execution, source).outcome == outcome


def test_a_test_that_exits_early_does_not_pass(execution: CodeExecution) -> None:
    source = "def f():\n    raise SystemExit(0)"
    assert run(execution, source, "f()\nassert False").outcome == "stopped"


def test_the_working_folder_is_its_own_and_empty(execution: CodeExecution) -> None:
    source = "import os\nhere = os.getcwd()"
    tests = (
        "assert os.listdir() == []\n"
        f"assert here != {str(Path.cwd())!r}\n"
        "open('note', 'w').write('x')\nassert open('note').read() == 'x'"
    )
    assert run(execution, source, tests).outcome == "passed"
    assert run(execution, source, tests).outcome == "passed"


def test_the_working_folder_is_deleted(
    limits_only: CodeExecution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(limits_only, "open('note', 'w').write('x')").outcome == "passed"
    assert list(tmp_path.iterdir()) == []


def test_sets_iterate_alike_in_every_run(execution: CodeExecution) -> None:
    source = "order = list({'a', 'b', 'c', 'd', 'e', 'f', 'g'})\nraise ValueError(str(order))"
    assert run(execution, source) == run(execution, source)


def test_dataclasses_and_big_programs_work(execution: CodeExecution) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass A:\n    x: int\n" + "# filler\n" * 30_000
    )
    assert run(execution, source, "assert A(1).x == 1").outcome == "passed"


def test_limits_are_those_that_are_asked_for(execution: CodeExecution) -> None:
    source, less = "x = bytearray(150 * 2**20)", replace(execution, memory_mb=128, seconds=20)
    more = replace(less, memory_mb=256)
    assert (run(less, source).outcome, run(more, source).outcome) == ("failed", "passed")
    source, more = "open('f', 'wb').write(b'0' * 2_000_000)", replace(execution, file_mb=3)
    assert (run(execution, source).outcome, run(more, source).outcome) == ("failed", "passed")
    source = "import time\nend = time.process_time() + 1.5\nwhile time.process_time() < end: pass"
    more = replace(execution, seconds=20)  # a machine under load needs the clock for it
    assert run(execution, source).outcome in ("stopped", "timed out")
    assert run(more, source).outcome == "passed"


def test_a_sleeper_is_ended_by_the_clock(execution: CodeExecution) -> None:
    started = time.perf_counter()
    assert run(execution, "import time\ntime.sleep(60)").outcome == "timed out"
    assert 4.9 < time.perf_counter() - started < 30


def test_the_size_of_all_files_is_limited(bubblewrap: CodeExecution) -> None:
    source = "for i in range(12):\n    open(str(i), 'wb').write(b'0' * 2**20)"
    assert run(bubblewrap, source).message.startswith("OSError: [Errno 28] No space left")
    assert run(replace(bubblewrap, disk_mb=16), source).outcome == "passed"


def test_installed_packages_are_out_of_reach_however_one_looks(bubblewrap: CodeExecution) -> None:
    hidden = [str(path) for path in this_interpreter().hidden]
    assert hidden
    source = f"import os\nfound = [n for f in {hidden!r} for n in os.listdir(f)]"
    assert run(bubblewrap, source, "assert found == []").outcome == "passed"


def test_results_keep_their_order(execution: CodeExecution) -> None:
    programs = [
        Program(source=f"import time\ntime.sleep({0.05 * (i % 3)})", tests=f"assert {i % 2}")
        for i in range(12)
    ]
    done = run_programs(programs, execution, workers=4)
    assert [d.outcome for d in done] == ["failed", "passed"] * 6


def test_many_programs_are_quick(execution: CodeExecution) -> None:
    programs = [
        Program(source="def f(x):\n    return x", tests=f"assert f({i}) == {i}") for i in range(60)
    ]
    started = time.perf_counter()
    assert all(d.outcome == "passed" for d in run_programs(programs, execution))
    assert time.perf_counter() - started < 30


def test_a_sandbox_that_does_not_start_is_no_wrong_answer(
    bubblewrap: CodeExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalsuite.sandbox.bubblewrap._NOBODY", "nobody")
    with pytest.raises(SandboxError, match=r"did not start a sandbox: bwrap: .*uid"):
        run(bubblewrap, "x = 1")
