from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import MachineError, UsageError
from runner.run_folder import RunFolder, held, open_run


def test_a_second_process_is_told_who_holds_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    program = (
        "from pathlib import Path\nfrom runner.run_folder import RunFolder, held\n"
        f"with held(RunFolder(Path({str(folder.path)!r}))):\n    print('mine')\n"
    )
    with held(folder):
        other = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
    assert "mine" not in other.stdout
    holder = json.loads((folder.path / "run.lock").read_text())
    assert f"process {holder['pid']} on {holder['host']}" in other.stderr
    with held(folder):
        pass  # free again


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    program = (
        "import os\nfrom pathlib import Path\nfrom runner.run_folder import RunFolder, held\n"
        f"with held(RunFolder(Path({str(folder.path)!r}))):\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    with held(folder):
        pass


def test_open_run_finds_the_only_run_and_names_several(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "lock.json").write_text("{}")
    assert open_run(tmp_path).path == tmp_path / "a"
    assert open_run(tmp_path / "a").path == tmp_path / "a"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "lock.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds 2 runs \(a, b\)"):
        open_run(tmp_path)
    with pytest.raises(UsageError, match="no such run folder"):
        open_run(tmp_path / "c")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.timings.write_text("{")
    with pytest.raises(MachineError, match=r"timings.json: damaged"):
        folder.note_seconds("train", 1.0)


def test_kept_answers_survive_what_sweeps_up_after_a_kill(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    kept, other = (folder.partial("base", digit * 64) for digit in "ab")
    adapters = folder.partial("adapter", "a" * 64)
    torn = folder.evaluation / ".base.123"
    for path in (kept, other, adapters, torn):
        path.mkdir(parents=True)
        (path / "task-answers.jsonl").write_text("{}")
    folder.sweep()
    assert sorted(folder.evaluation.iterdir()) == sorted([kept, other, adapters])
    folder.remove_partial("base", but=kept)
    assert sorted(folder.evaluation.iterdir()) == sorted([kept, adapters])
    folder.remove_partial("base")
    assert list(folder.evaluation.iterdir()) == [adapters]
