"""SIGKILL in each stage; the same command goes on and ends the same, byte for byte.

The short version of benchmarks/resume.py: the moment is chosen by what the run has just begun.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.run_folder import open_run
from tests.killing import finish, kill_when, start

# What has just begun, as a pattern below the run folder.
STAGES = {
    "base evaluation": "evaluation/.base.*",
    "training": "checkpoints/checkpoint-*/sealed.json",
    "adapter evaluation": "evaluation/.adapter.*",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_ends_the_same(
    stage: str, tmp_path: Path, tiny_recipe: dict[str, Any]
) -> None:
    # Enough steps that the kill comes before the last.
    tiny_recipe["training"].update(max_steps=60, checkpoint_every=5, validate_every=20)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(tiny_recipe))
    expected = finish(recipe, tmp_path / "undisturbed")
    runs = tmp_path / "killed"
    kill_when(start(recipe, runs), lambda: bool(list(runs.glob(f"tiny/*/{STAGES[stage]}"))))
    found = finish(recipe, runs)
    assert {name: found[name] == expected[name] for name in expected} == dict.fromkeys(
        expected, True
    )
    if stage == "training":
        record = json.loads(open_run(runs / "tiny").training.read_text())
        assert record["resumed_from"] != []
