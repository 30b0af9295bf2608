"""Digests that are remembered by a file's stat, and never believed where the stat may lie."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runner.data.reading import file_stat_digests
from runner.data.reading.file_stat_digests import SETTLED, SMALLEST, cached_file_digest
from runner.digests import file_digest

BIG = b"x" * SMALLEST


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PROOFBOX_CACHE", str(folder))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read."""
    found: list[Path] = []

    def noted(path: Path) -> str:
        found.append(path)
        return file_digest(path)

    monkeypatch.setattr(file_stat_digests, "file_digest", noted)
    return found


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is three seconds later than the clock says."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + SETTLED + 1_000_000_000)


@pytest.mark.usefixtures("settled")
def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(BIG)
    assert cached_file_digest(path) == cached_file_digest(path) == file_digest(path)
    assert reads == [path]


@pytest.mark.usefixtures("settled")
def test_a_change_of_the_same_size_with_the_old_mtime_is_seen(
    tmp_path: Path, reads: list[Path]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(BIG)
    first, stat = cached_file_digest(path), path.stat()
    path.write_bytes(b"y" + BIG[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cached_file_digest(path) != first
    assert len(reads) == 2


@pytest.mark.usefixtures("settled")
def test_another_file_in_its_place_is_seen(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(BIG)
    first, stat = cached_file_digest(path), path.stat()
    other.write_bytes(b"y" + BIG[1:])
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)
    assert cached_file_digest(path) != first


def test_a_digest_of_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, reads: list[Path], cache: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(BIG)
    cached_file_digest(path)
    cached_file_digest(path)
    assert len(reads) == 2
    assert not cache.exists()


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(BIG)

    def slow(path: Path) -> str:
        digest = file_digest(path)
        path.write_bytes(b"yy" + BIG)
        return digest

    monkeypatch.setattr(file_stat_digests, "file_digest", slow)
    cached_file_digest(path)
    assert not cache.exists()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"stat": [1], "sha256": "x"}', '{"sha256": 3}']
)
def test_a_damaged_entry_is_made_anew(tmp_path: Path, cache: Path, content: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(BIG)
    cached_file_digest(path)
    (entry,) = (cache / "file-digests").iterdir()
    entry.write_text(content)
    assert cached_file_digest(path) == file_digest(path)
    assert entry.read_text() != content


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(BIG)
    monkeypatch.setenv("PROOFBOX_CACHE", str(path / "below-a-file"))
    assert cached_file_digest(path) == file_digest(path)


def test_small_files_leave_no_trace(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    assert cached_file_digest(path) == file_digest(path)
    assert not cache.exists()
