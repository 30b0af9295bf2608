"""A finished run with a release, made once: `proofbox run` on the tiny model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.run_folder import RunFolder, open_run
from tests.conftest import ROOT


def released_recipe(model: Path) -> dict[str, Any]:
    """A recipe whose gate the tiny model passes."""
    return {
        "version": 1,
        "name": "shipped",
        "dataset": {
            "source": "rows.json",
            "partition": {"by": "position", "train": 0.5, "validation": 0.1, "test": 0.4},
        },
        "model": {"base": str(model), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8, "target_modules": "all-linear"},
        "training": {"max_steps": 20, "batch_size": 8, "learning_rate": 0.02},
        "evaluation": {
            "loss": ["test"],
            "generation": [
                {"name": "answers", "limit": 4, "decoding": {"max_new_tokens": 6},
                 "metrics": ["exact_match", "chrf"]}
            ],
        },
        "gates": [{"metric": "test.loss", "claim": "superior", "margin": 0.1}],
        "hardware": {"device": "cpu", "threads": 1},
    }  # fmt: skip


@pytest.fixture(scope="session")
def released_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> RunFolder:
    """Do not change it; take `run_copy`."""
    project = tmp_path_factory.mktemp("released")
    rows = [{"instruction": f"Add {n} to x.", "input": "", "output": f"x + {n}"} for n in range(60)]
    (project / "rows.json").write_text(json.dumps(rows))
    recipe = project / "shipped.json"
    recipe.write_text(json.dumps(released_recipe(tiny_model_folder)))
    done = subprocess.run(
        [sys.executable, "-m", "runner", "run", recipe, "--runs", project / "runs"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return open_run(project / "runs" / "shipped")


@pytest.fixture
def run_copy(released_run: RunFolder, tmp_path: Path) -> RunFolder:
    """The finished run, to be changed."""
    target = tmp_path / released_run.path.name
    shutil.copytree(released_run.path, target)
    return RunFolder(target)


@pytest.fixture
def release_copy(released_run: RunFolder, tmp_path: Path) -> Path:
    """Its release, to be changed."""
    target = tmp_path / "release"
    shutil.copytree(released_run.release, target)
    return target
