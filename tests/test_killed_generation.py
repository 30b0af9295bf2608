"""SIGKILL in the middle of generation; the same command goes on from the answers that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.run_folder import open_run
from tests.killing import finish, kill_when, start


@pytest.mark.slow  # tests/test_killed_runs.py kills the adapter's evaluation, in every suite
@pytest.mark.parametrize("subject", ["base", "adapter"])
def test_generation_that_is_killed_continues(
    subject: str, tmp_path: Path, tiny_recipe: dict[str, Any]
) -> None:
    """Answers that are there are not made again, and the records are the very same."""
    (task,) = tiny_recipe["evaluation"]["generation"]
    # Two prompts in a batch: some answers are there long before the last.
    task.update(limit=12, decoding={"max_new_tokens": 150, "do_sample": True}, answers=2)
    tiny_recipe["hardware"]["batch_tokens"] = 400
    tiny_recipe["training"].update(max_steps=4, validate_every=None, checkpoint_every=None)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(tiny_recipe))
    expected = finish(recipe, tmp_path / "undisturbed")
    runs = tmp_path / "killed"
    kept = f"tiny/*/evaluation/.partial-{subject}-*/task-answers.jsonl"

    def lines() -> int:
        return sum(path.read_bytes().count(b"\n") for path in runs.glob(kept))

    kill_when(start(recipe, runs), lambda: lines() >= 4)
    before = lines()
    assert before < 24, "the kill came after the last answer"
    found = finish(recipe, runs)
    assert found == expected
    whole, again = (open_run(tmp_path / name / "tiny") for name in ("undisturbed", "killed"))
    for name in ("base", "adapter"):
        stored = [run.evaluation / name / "answers.parquet" for run in (whole, again)]
        assert stored[0].read_bytes() == stored[1].read_bytes()
    summary = json.loads((again.evaluation / subject / "summary.json").read_text())
    # The orphan may have finished another batch before it noticed that its parent was gone.
    assert before <= summary["generation"]["answers"]["kept_from_before"] < 24
