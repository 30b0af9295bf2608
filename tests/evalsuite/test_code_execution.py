from __future__ import annotations

import time
from pathlib import Path

import pytest

from evalsuite.code_execution import Execution, Limits, Program, run_programs

SHORT = Limits(seconds=1)


def run(source: str, tests: str = "assert True", limits: Limits = SHORT) -> Execution:
    return run_programs([Program(source=source, tests=tests)], limits=limits)[0]


def test_tests_that_hold() -> None:
    assert run("def f(x):\n    return x + 1", "assert f(1) == 2").outcome == "passed"


def test_tests_that_do_not_hold() -> None:
    done = run("def f(x):\n    return x", "assert f(1) == 2, 'one'")
    assert done == Execution(outcome="failed", message="AssertionError: one")


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("while True:\n    pass", "timed out"),
        ("import time\ntime.sleep(60)", "timed out"),
        ("while True:\n    print('x' * 100_000)", "timed out"),
        ("import sys\nsys.exit(0)", "stopped"),
        ("exit(0)", "failed"),  # no such name without the site module
        ("raise SystemExit(0)", "stopped"),
        ("raise KeyboardInterrupt", "stopped"),
        ("import os\nos._exit(0)", "stopped"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "stopped"),
        ("print('passed')\nraise ValueError('no')", "failed"),
        ("x = bytearray(10 * 2**30)", "failed"),
        ("def g(n):\n    return g(n + 1)\ng(0)", "failed"),
        ("open('big', 'wb').write(b'0' * 10**7)", "failed"),
        ("def f(:", "failed"),
        ("", "passed"),
        ("import numpy", "failed"),  # the standard library alone
        ("class E(Exception):\n    def __str__(self):\n        raise E\nraise E", "stopped"),
        ("raise ValueError('\\ud800 \\n two')", "failed"),
    ],
)
def test_attacks_and_accidents_do_not_pass(source: str, outcome: str) -> None:
    started = time.perf_counter()
    assert run(source).outcome == outcome
    assert time.perf_counter() - started < 5


def test_deep_recursion_without_a_limit_does_not_pass() -> None:
    source = "import sys\nsys.setrecursionlimit(10**9)\ndef g(n):\n    return g(n + 1)\ng(0)"
    assert run(source).outcome != "passed"


def test_writing_to_every_file_descriptor_does_not_pass() -> None:
    source = (
        "import os\n"
        "for fd in range(3, 64):\n"
        "    try:\n        os.write(fd, b'0' * 64)\n"
        "    except OSError:\n        pass\n"
        "os._exit(0)"
    )
    assert run(source).outcome == "stopped"


def test_a_flood_of_the_report_does_not_pass() -> None:
    source = (
        "import os\n"
        "while True:\n"
        "    for fd in range(3, 16):\n"
        "        try:\n            os.write(fd, b'x' * 65536)\n"
        "        except OSError:\n            pass"
    )
    assert run(source).outcome in ("stopped", "timed out")


def test_a_test_that_exits_early_does_not_pass() -> None:
    assert run("def f():\n    raise SystemExit(0)", "f()\nassert False").outcome == "stopped"


def test_what_a_program_started_is_killed(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    child = f"import time; time.sleep(2.5); open({str(marker)!r}, 'w')"
    source = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}])"
    run(source)
    time.sleep(3)
    assert not marker.exists()


def test_the_environment_is_empty_and_the_folder_is_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_TOKEN", "secret")
    source = "import os\nhere = os.getcwd()"
    tests = (
        "assert 'A_TOKEN' not in os.environ\n"
        "assert os.listdir() == []\n"
        f"assert here != {str(Path.cwd())!r}\n"
        "open('note', 'w').write('x')"
    )
    assert run(source, tests).outcome == "passed"
    assert run(source, tests).outcome == "passed"


def test_the_working_folder_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run("open('note', 'w').write('x')").outcome == "passed"
    assert list(tmp_path.iterdir()) == []


def test_sets_iterate_alike_in_every_run() -> None:
    source = "order = list({'a', 'b', 'c', 'd', 'e', 'f', 'g'})\nraise ValueError(str(order))"
    assert run(source) == run(source)


def test_dataclasses_and_big_programs_work() -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass A:\n    x: int\n" + "# filler\n" * 30_000
    )
    assert run(source, "assert A(1).x == 1").outcome == "passed"


def test_results_keep_their_order() -> None:
    programs = [
        Program(source=f"import time\ntime.sleep({0.05 * (i % 3)})", tests=f"assert {i % 2}")
        for i in range(12)
    ]
    done = run_programs(programs, workers=4)
    assert [d.outcome for d in done] == ["failed", "passed"] * 6


def test_many_programs_are_quick() -> None:
    programs = [
        Program(source="def f(x):\n    return x", tests=f"assert f({i}) == {i}") for i in range(60)
    ]
    started = time.perf_counter()
    assert all(d.outcome == "passed" for d in run_programs(programs))
    assert time.perf_counter() - started < 10
