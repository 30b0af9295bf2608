from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.cache import cache_folder, copy_folder


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROOFBOX_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("PROOFBOX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "proofbox"


def test_many_writers_of_one_entry_leave_one_whole_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in range(20):
        (source / str(name)).write_bytes(bytes(1000))
    target = tmp_path / "cache" / "entry"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: copy_folder(source, target), range(60)))
    assert sorted(p.name for p in target.iterdir()) == sorted(p.name for p in source.iterdir())
    assert [p.name for p in target.parent.iterdir()] == ["entry"]
