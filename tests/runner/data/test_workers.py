"""Processes that prepare rows: the same result, and none of them is left over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.data import workers
from runner.data.prepared_data import PreparedData
from runner.data.reading import row_store
from runner.data.workers import make_batches
from runner.errors import DataError, MachineError
from tests.conftest import ROOT
from tests.runner.data.preparing import leftovers, prepare, rows, write
from tests.runner.tiny_data import make_recipe

linux_only = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "BATCH", 20)
    monkeypatch.setattr(workers, "WORTH_A_PROCESS", 2)


def some_rows(folder: Path) -> None:
    """600 rows of which some break rules, some leak and some are equal."""
    data = rows(600)
    for n in range(0, 600, 7):
        data[n] = {**data[n % 50], "output": data[n]["output"]}
    for n in range(0, 600, 50):
        data[n]["output"] = ""
    data[17]["output"] += "</s>"
    data[222]["output"] = "x\n" * 500
    write(folder, data)


def prepare_with(folder: Path, threads: int, **options: Any) -> PreparedData:
    recipe = make_recipe(
        [{"path": "rows.jsonl", "weight": 1.5}],
        dataset={
            "columns": {"tests": "tests"},
            "violations": {"special_token_in_text": "escape", "empty_answer": "drop"},
        },
        template={"max_length": 500},
        hardware={"threads": threads},
    )
    return prepare(folder, recipe, cache_folder=folder / f"cache {threads}", **options)


# The same with one process and with several


def test_one_process_and_two_give_the_same_bytes(tmp_path: Path, small_batches: None) -> None:
    some_rows(tmp_path)
    told: dict[int, list[tuple[str, int, int]]] = {1: [], 2: []}
    started: set[int] = set()

    def note(threads: int) -> Callable[[str, int, int], None]:
        def on_progress(*progress: Any) -> None:
            told[threads].append(progress)
            started.update(p.pid for p in multiprocessing.active_children() if p.pid)

        return on_progress

    alone = prepare_with(tmp_path, 1, on_progress=note(1))
    assert not started
    together = prepare_with(tmp_path, 2, on_progress=note(2))
    assert len(started) == 2
    assert multiprocessing.active_children() == []
    assert together.key == alone.key
    assert together.as_json() == alone.as_json()
    files = [
        {path.name: path.read_bytes() for path in Path(data.folder).iterdir()}
        for data in (alone, together)
    ]
    assert len(files[0]) == 7
    assert files[0] == files[1]
    assert told[2] == told[1]


@dataclass(frozen=True)
class FakeStored:
    batches: int


@dataclass(frozen=True)
class FakeMaker:
    """Stands in for a ``BatchMaker``: the later a batch, the sooner it is made."""

    stored: FakeStored
    fault: str = ""

    def make(self, number: int) -> Any:
        if self.fault and number == 3:
            self.fail()
        time.sleep(0.2 if number == 0 else 0)
        return number, os.getpid()

    def fail(self) -> None:
        if self.fault == "data":
            raise DataError("row 3 is no row")
        if self.fault == "unpicklable":
            raise UnpicklableError(lambda: None)
        raise UnreadableError(rows=3)


class UnpicklableError(Exception):
    """An exception that cannot be sent."""


class UnreadableError(Exception):
    """An exception that can be sent, but not read."""

    def __init__(self, *, rows: int) -> None:
        super().__init__(f"{rows} rows")


def fake(batches: int, fault: str = "") -> Any:
    return FakeMaker(FakeStored(batches), fault)


@pytest.fixture
def every_batch_is_worth_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WORTH_A_PROCESS", 1)


@pytest.mark.parametrize(("batches", "processes"), [(0, 8), (19, 8), (1000, 1), (25, 2)])
def test_few_batches_or_one_process_start_none(
    monkeypatch: pytest.MonkeyPatch, batches: int, processes: int
) -> None:
    if batches == 25:
        monkeypatch.setattr(workers, "WORTH_A_PROCESS", 13)
    monkeypatch.setattr(workers, "_begin", None)
    assert [n for n, _ in make_batches(fake(batches), processes)] == list(range(batches))


@pytest.mark.parametrize(
    ("batches", "processes", "started"), [(20, 64, 2), (39, 64, 3), (1000, 4, 4)]
)
def test_no_more_processes_than_batches_are_worth(
    monkeypatch: pytest.MonkeyPatch, batches: int, processes: int, started: int
) -> None:
    """A machine of 64 cores does not start 64 processes, of some 300 MB each, for 20 batches."""

    begun: list[int] = []
    monkeypatch.setattr(workers, "_begin", lambda _, batch_maker: begun.append(1))
    monkeypatch.setattr(workers, "_in_order", lambda _, number: iter(range(number)))
    assert len(list(make_batches(fake(batches), processes))) == batches
    assert len(begun) == started


@pytest.mark.usefixtures("every_batch_is_worth_a_process")
def test_results_come_in_order_and_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = workers._Worker.ask

    def ask(worker: Any, number: int) -> None:
        calls.append(number)
        original(worker, number)

    monkeypatch.setattr(workers._Worker, "ask", ask)
    made = make_batches(fake(30), 2)
    found = [next(made)]
    assert len(calls) <= 3 * 2 * workers.AHEAD
    found += made
    assert [number for number, _ in found] == list(range(30))
    assert os.getpid() not in {process for _, process in found}


@pytest.mark.usefixtures("every_batch_is_worth_a_process")
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("data", DataError, "row 3 is no row"),
        ("unpicklable", Exception, "pickle"),
        # Nothing was killed, and no more memory would help.
        ("unreadable", Exception, "."),
    ],
)
def test_what_a_process_raises_is_raised_here(
    fault: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        list(make_batches(fake(30, fault), 2))
    told = "".join(getattr(caught.value, "__notes__", ()))
    assert "fail" in told or "UnreadableError" in f"{caught.value!r}{told}"
    assert not isinstance(caught.value, MachineError)
    assert multiprocessing.active_children() == []


# Killed and interrupted


def test_a_killed_process_is_told_and_nothing_stays(tmp_path: Path, small_batches: None) -> None:
    some_rows(tmp_path)

    def kill(what: str, done: int, _: int) -> None:
        if (what, done) == ("preparing rows", 20):
            for child in multiprocessing.active_children():
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(MachineError, match=r"was killed.*set hardware\.threads to fewer"):
        prepare_with(tmp_path, 2, on_progress=kill)
    assert list((tmp_path / "cache 2" / "prepared").iterdir()) == []
    assert multiprocessing.active_children() == []
    assert prepare_with(tmp_path, 2).source_rows == 600


SCRIPT = """
import sys, time
from pathlib import Path
from runner.data import workers
from runner.data.reading import row_store
from tests.runner.data.preparing import prepare
from tests.runner.tiny_data import make_recipe

def on_progress(what, done, total):
    print(what, done, flush=True)
    if sys.argv[2] == what:
        time.sleep(60)

if __name__ == "__main__":
    row_store.BATCH, workers.WORTH_A_PROCESS = 20, 2
    try:
        prepare(Path(sys.argv[1]), make_recipe(hardware={"threads": 2}), on_progress=on_progress)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a run that prepares rows, and stops at a certain progress, in a group of its own."""
    write(tmp_path, rows(600))
    (tmp_path / "script.py").write_text(SCRIPT)
    started: list[subprocess.Popen[str]] = []

    def run(stop_at: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, str(tmp_path / "script.py"), str(tmp_path), stop_at],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )
        )  # fmt: skip
        return started[-1]

    yield run
    for process in started:
        with suppress(ProcessLookupError):  # nobody of its group is left, as it should be
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def children_of(process: int) -> list[int]:
    """The processes that prepare rows which ``process`` started."""
    found = []
    tasks = Path(f"/proc/{process}/task")
    for task in tasks.iterdir() if tasks.is_dir() else ():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_text()
            if "multiprocessing.spawn" in command:
                found.append(int(child))
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def deaf_to_keyboard(process: int) -> bool:
    """Whether Ctrl-C is blocked, which holds from before its first instruction."""
    status = Path(f"/proc/{process}/status").read_text()
    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    return bool(blocked >> (signal.SIGINT - 1) & 1)


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.startswith(line):
            return
    raise AssertionError(process.communicate()[1])


@linux_only
def test_processes_end_with_the_one_that_started_them(
    tmp_path: Path, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = start("preparing rows")
    read_until(process, "preparing rows 20")
    children = children_of(process.pid)
    assert len(children) == 2
    process.kill()
    process.wait()
    assert wait_for(lambda: not any(map(alive, children)), 3)
    cache = tmp_path / "cache" / "prepared"
    assert len(leftovers(cache)) == 1
    data = prepare(tmp_path)
    assert [path.name for path in cache.iterdir()] == [data.key]


@linux_only
@pytest.mark.parametrize("moment", ["while they start", "while they work"])
def test_ctrl_c_ends_all_and_only_one_speaks(
    tmp_path: Path, start: Callable[[str], subprocess.Popen[str]], moment: str
) -> None:
    """A terminal sends the signal to the whole group."""
    process = start("preparing rows" if moment == "while they work" else "never")
    if moment == "while they work":
        read_until(process, "preparing rows 20")
    else:
        read_until(process, "reading rows 600")
        assert wait_for(lambda: len(children_of(process.pid)) == 2, 20)
    children = children_of(process.pid)
    assert len(children) == 2
    assert all(map(deaf_to_keyboard, children))
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert error == "interrupted\n"
    assert process.returncode == 130
    assert not any(map(alive, children))
    assert list((tmp_path / "cache" / "prepared").iterdir()) == []
