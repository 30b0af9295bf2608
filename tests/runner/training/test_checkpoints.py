from __future__ import annotations

from pathlib import Path

import pytest

from runner.training.checkpoints import SEAL, newest_intact, seal_checkpoint


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    for step in (10, 20, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(bytes(range(step)))
        seal_checkpoint(folder)
    return tmp_path


def test_the_newest_is_the_highest_step_not_the_last_name(checkpoints: Path) -> None:
    said: list[str] = []
    assert newest_intact(checkpoints, said.append) == checkpoints / "checkpoint-100"
    assert said == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "unsealed", "torn seal"])
def test_a_damaged_newest_gives_way_to_the_one_before(checkpoints: Path, damage: str) -> None:
    newest = checkpoints / "checkpoint-100"
    weights = newest / "weights.safetensors"
    content = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "missing":
        weights.unlink()
    elif damage == "unsealed":
        (newest / SEAL).unlink()
    else:
        (newest / SEAL).write_text('{"files": {')
    said: list[str] = []
    assert newest_intact(checkpoints, said.append) == checkpoints / "checkpoint-20"
    assert len(said) == 1
    assert said[0].startswith("checkpoint of step 100 is not used: ")
    assert not newest.exists()


def test_without_any_checkpoint_training_starts_anew(tmp_path: Path) -> None:
    assert newest_intact(tmp_path / "absent", print) is None
