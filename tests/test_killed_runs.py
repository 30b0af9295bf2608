"""SIGKILL in each stage; the same command goes on and ends the same, byte for byte.

The short version of benchmarks/resume.py: the moment is chosen by what the run has just begun.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.run_folder import RunFolder, open_run
from tests.conftest import ROOT


def start(recipe: Path, runs: Path) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with a cache of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "run", str(recipe), "--runs", str(runs)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PROOFBOX_CACHE": str(runs / "cache")},
    )  # fmt: skip


def finish(recipe: Path, runs: Path) -> dict[str, bytes]:
    """Run to the end and return what must not depend on how often it was killed."""
    assert start(recipe, runs).wait() in (0, 1, 3)
    run = open_run(runs / "tiny")
    assert not list(run.path.rglob(".*"))
    return contents(run)


def contents(run: RunFolder) -> dict[str, bytes]:
    files = [run.adapter / "adapter_model.safetensors", run.evidence, run.verdict]
    return {path.name: path.read_bytes() for path in files}


def kill_when(process: subprocess.Popen[bytes], begun: Callable[[], bool]) -> None:
    """SIGKILL to the parent alone, as a user's kill -9 does."""
    deadline = time.monotonic() + 120
    while not begun():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


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


@pytest.mark.parametrize("subject", [pytest.param("base", marks=pytest.mark.slow), "adapter"])
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
