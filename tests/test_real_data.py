"""The whole path on public data with the embedded base model; skipped where the data is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalsuite.record_files import read_evidence
from runner.run_folder import open_run
from tests.conftest import ROOT
from tests.test_end_to_end import proofbox

COLUMNS = {
    "code_alpaca_2k.json": {},
    "gsm8k_train_3000.jsonl": {"instruction": "question", "input": None, "output": "answer"},
}


def recipe_for(data: Path, name: str) -> dict[str, Any]:
    return {
        "version": 1,
        "name": name,
        "dataset": {"source": str(data), "columns": COLUMNS[data.name]},
        "template": {"max_length": 512},
        "model": {
            "base": str(ROOT / "recipes" / "quickstart" / "model"),
            "dtype": "float32",
            "pad_token": "<unk>",
        },
        "lora": {"r": 8, "alpha": 16},
        "training": {"max_steps": 8, "batch_size": 4, "learning_rate": 1e-3, "log_every": 4},
        "evaluation": {
            "loss": ["test"],
            "generation": [
                {
                    "name": "answers",
                    "limit": 4,
                    "decoding": {"max_new_tokens": 16},
                    "metrics": ["exact_match", "rouge", "chrf"],
                }
            ],
        },
        "gates": [{"metric": "test.loss", "claim": "superior"}],
        "hardware": {"device": "cpu"},
    }


@pytest.mark.parametrize("name", COLUMNS)
def test_public_data_end_to_end(name: str, shared_data: Path, tmp_path: Path) -> None:
    recipe = recipe_for(shared_data / name, name.split("_", maxsplit=1)[0])
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    done = proofbox("run", path, "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    folder = open_run(tmp_path / "runs" / recipe["name"])
    evidence = read_evidence(folder.evidence)
    loss = evidence.difference("test.loss")
    assert loss is not None
    assert loss.high < 0  # eight steps on real text already lower this model's loss
    data = json.loads(folder.data.read_text())
    rows = sum(part["rows"] for part in data["partitions"].values())
    assert rows + data["leaks"]["dropped"] == data["rows_kept"]
    refused = [rule for rule in data["rules"] if rule["policy"] == "error"]
    assert len(refused) > 5
    assert all(rule["violations"] == 0 for rule in refused)
    assert all(rule["rows_checked"] == data["source_rows"] for rule in data["rules"])
