"""Which release an adapter is compared with, and that it is the one that was released."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import MachineError, UsageError
from runner.previous_release import (
    last_release,
    named_release,
    note_release,
    read_release,
    take_in_results,
)
from runner.run_folder import RunFolder

Make = Callable[..., RunFolder]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(run_id: str, released_at: str | None = None) -> RunFolder:
        run = RunFolder(tmp_path / "small" / run_id)
        files = {
            "evidence.json": json.dumps({"adapter_digest": f"of {run_id}", "base_digest": "b"}),
            "lock.json": json.dumps({"run_id": run_id}),
            "evaluation/adapter/loss.parquet": f"losses of {run_id}",
            "evaluation/adapter/answers.parquet": f"answers of {run_id}",
            "evaluation/base/loss.parquet": "losses of the base",
        }
        for name, text in files.items():
            path = run.release / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        sums = (f"{hashlib.sha256(t.encode()).hexdigest()}  {n}\n" for n, t in files.items())
        (run.release / "SHA256SUMS").write_text("".join(sums))
        if released_at is not None:
            record = {"adapter_digest": f"of {run_id}", "released_at": released_at}
            run.released.write_text(json.dumps(record))
        return run

    return made


def test_the_newest_of_the_other_runs(make: Make, tmp_path: Path) -> None:
    make("aaaa", "2026-01-01T00:00:00")
    make("bbbb", "2026-03-01T00:00:00")
    make("cccc", "2026-02-01T00:00:00")
    found = last_release(RunFolder(tmp_path / "small" / "dddd"))
    assert found is not None
    assert (found.run_id, found.adapter_digest, found.base_digest) == ("bbbb", "of bbbb", "b")


def test_there_is_none_at_first(make: Make, tmp_path: Path) -> None:
    own = make("aaaa", "2026-01-01T00:00:00")
    assert last_release(own) is None
    withdrawn = make("bbbb", "2025-01-01T00:00:00")
    withdrawn.release.rename(tmp_path / "elsewhere")
    assert last_release(own) is None


def test_a_released_run_is_compared_with_what_was_released_before_it(make: Make) -> None:
    """Run again, it must not be judged by its successor."""
    first = make("aaaa", "2026-01-01T00:00:00")
    second = make("bbbb", "2026-02-01T00:00:00")
    assert last_release(first) is None
    found = last_release(second)
    assert found is not None and found.run_id == "aaaa"


def test_the_time_of_a_release_stays_until_another_adapter_is_released(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "small" / "aaaa")
    note_release(run, "a")
    first = run.released.read_text()
    note_release(run, "a")
    assert run.released.read_text() == first
    note_release(run, "b")
    assert run.released.read_text() != first
    run.release.mkdir()
    run.withdraw()
    assert not run.released.exists()


@pytest.mark.parametrize(
    "name",
    ["evidence.json", "lock.json", "evaluation/adapter/loss.parquet"],
)
def test_a_release_that_changed_is_not_compared_with(make: Make, name: str) -> None:
    run = make("aaaa")
    (run.release / name).write_text("changed")
    with pytest.raises(MachineError, match=rf"{name}: not as it was released"):
        read_release(run.release)


def test_results_that_were_added_or_removed(make: Make) -> None:
    run = make("aaaa")
    (run.release / "evaluation/adapter/more.parquet").write_text("x")
    with pytest.raises(MachineError, match="not the per-example results that were released"):
        read_release(run.release)
    (run.release / "evaluation/adapter/more.parquet").unlink()
    (run.release / "evaluation/adapter/answers.parquet").unlink()
    with pytest.raises(MachineError, match=r"answers\.parquet: not as it was released"):
        read_release(run.release)


def test_a_folder_that_is_named_must_hold_a_release(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no release to compare with"):
        named_release(tmp_path)


def test_results_are_taken_in_whole(make: Make, tmp_path: Path) -> None:
    run, target = make("aaaa"), tmp_path / "evaluation" / "release"
    target.mkdir(parents=True)
    (target / "of-an-older-release.parquet").write_text("x")
    take_in_results(named_release(run.release), target)
    assert {path.name for path in target.iterdir()} == {"loss.parquet", "answers.parquet"}
    assert (target / "loss.parquet").read_text() == "losses of aaaa"
