"""What stops the making of an entry leaves nothing that could be taken for one."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from runner.cache import host
from runner.quantizing.quantized_cache import (
    RECORD,
    QuantizedRecord,
    read_quantized,
    store_quantized,
)
from tests.runner.quantizing.fake_quantizing import RESULT_OF_ALL


def made(checkpoint: Path, text: str = "{}") -> QuantizedRecord:
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text(text)
    return QuantizedRecord(
        key="key", digest="d", base_digest="b", quantization={"bits": 4}, examples=1, tokens=11,
        calibration_digest="c", dtype="float32", device="cpu", threads=1, versions={},
        result=RESULT_OF_ALL,
    )  # fmt: skip


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(28, "full")])
def test_what_stops_the_making_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def make(checkpoint: Path) -> QuantizedRecord:
        made(checkpoint)
        raise error

    with pytest.raises(type(error)):
        store_quantized(tmp_path / "cache" / "key", make)
    assert list((tmp_path / "cache").iterdir()) == []


def dead_process() -> int:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid


def test_what_a_killed_process_left_is_no_entry_and_is_swept(tmp_path: Path) -> None:
    killed = tmp_path / f".{host()}.{dead_process()}.abc"
    working = tmp_path / f".{host()}.{os.getppid()}.abc"
    for folder in (killed, working):
        made_by(folder / "entry")
    store_quantized(tmp_path / "key", made)
    assert {path.name for path in tmp_path.iterdir()} == {"key", working.name}


def made_by(entry: Path) -> None:
    entry.mkdir(parents=True)
    made(entry / "checkpoint")


def test_a_process_that_was_quicker_stays(tmp_path: Path) -> None:
    folder = tmp_path / "key"

    def slower(checkpoint: Path) -> QuantizedRecord:
        store_quantized(folder, lambda other: made(other, "first"))
        return made(checkpoint, "second")

    store_quantized(folder, slower)
    assert (folder / "checkpoint" / "config.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("record", [None, "{", "{}", '{"result": {}}'])
def test_an_entry_without_a_sound_record_is_removed(tmp_path: Path, record: str | None) -> None:
    folder = tmp_path / "key"
    store_quantized(folder, made)
    (folder / RECORD).unlink()
    if record is not None:
        (folder / RECORD).write_text(record)
    told: list[str] = []
    assert read_quantized(folder, "base", told.append) is None
    assert not folder.exists()
    assert len(told) == 1
    assert "is damaged" in told[0]
