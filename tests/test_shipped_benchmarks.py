"""The shipped benchmarks on real data, asked of the quickstart's model from recipe to verdict.

A model of 3.7 M parameters knows no mathematics: what is checked is the machinery.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pyarrow import parquet

from evalsuite.record_files import read_evidence, read_verdict
from runner.run_folder import RunFolder, open_run
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
SHIPPED = {"gsm8k-style": "gsm8k_train_3000.jsonl", "code-alpaca-rouge": "code_alpaca_2k.json"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> RunFolder:
    """The quickstart, trained for a few steps, with both benchmarks beside their data."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "benchmarks").mkdir()
    for name, data in SHIPPED.items():
        shutil.copy2(ROOT / "recipes" / "benchmarks" / f"{name}.yaml", folder / "benchmarks")
        (folder / "benchmarks" / data).symlink_to(shared_data / data)
    shutil.copytree(ROOT / "recipes" / "quickstart", folder / "quickstart")
    recipe = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8"))
    recipe["training"] |= {"max_steps": 20, "validate_every": None, "learning_rate": 3e-3}
    recipe["evaluation"] = {
        "loss": ["test"],
        "benchmarks": [f"benchmarks/{name}.yaml" for name in SHIPPED],
    }
    recipe["gates"] = [
        {"metric": "gsm8k-style.exact_match", "claim": "non_inferior", "margin": 0.05},
        {"metric": "gsm8k-style.exact_match", "claim": "floor", "at": 0.5},
        {"metric": "code-alpaca-rouge.rougeL", "claim": "non_inferior", "margin": 0.2},
    ]
    path = folder / "shipped.json"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "runner", "run", str(path), "--runs", str(folder / "runs")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr  # the floor is far above
    return open_run(folder / "runs" / "quickstart")


def test_scores_have_intervals_and_gates_their_verdicts(asked: RunFolder) -> None:
    evidence = read_evidence(asked.evidence)
    for metric, items in (("gsm8k-style.exact_match", 500), ("code-alpaca-rouge.rougeL", 200)):
        for subject in ("base", "adapter"):
            found = evidence.measurement(metric, subject)
            assert found is not None
            assert found.examples == items
            assert 0 <= found.low <= found.value <= found.high < 0.2
        difference = evidence.difference(metric)
        assert difference is not None
        assert difference.low <= difference.difference <= difference.high
    verdicts = [gate.verdict for gate in read_verdict(asked.verdict).gates]
    assert verdicts[:2] == ["PASS", "FAIL"]
    assert verdicts[2] in {"PASS", "INCONCLUSIVE"}


def test_five_rows_are_shown_and_the_last_number_counts(asked: RunFolder) -> None:
    rows = parquet.read_table(asked.evaluation / "adapter" / "gsm8k-style.parquet").to_pylist()
    given = (asked.path.parents[2] / "benchmarks" / SHIPPED["gsm8k-style"]).read_text().splitlines()
    for row, line in zip(rows, given[2500:], strict=True):
        wanted = json.loads(line)
        assert row["prompt"].endswith(f"Question: {wanted['question']}\nAnswer:")
        assert row["prompt"].count("Question: ") >= 6
        assert "Question:" not in row["answer"]
        assert row["reference"] == wanted["answer"]
        gold = wanted["answer"].rpartition("#### ")[2].replace(",", "")
        said = row["extracted"] if row["extraction_found"] else None
        assert row["exact_match"] == (said == gold)
