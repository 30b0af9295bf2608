"""A run whose recipe measures sets of rows beside its dataset, with divergence and slices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalsuite.record_files import read_evidence, read_verdict
from runner.cli import guarded
from runner.commands.run import run
from runner.run_folder import RunFolder, open_run


def carried_out(path: Path, runs: Path) -> RunFolder:
    guarded(lambda: run(str(path), runs=runs, device=None, restart=False))
    return open_run(runs / "tiny")


def with_set(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    texts = [{"text": f"The number {n} is not {n + 1}. " * (1 + n % 5)} for n in range(12)]
    (folder / "neutral.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    marked = [{**row, "topic": "even" if n % 2 else "odd"} for n, row in enumerate(rows)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in marked))
    recipe["dataset"]["columns"]["slice"] = "topic"
    recipe["evaluation"] = {
        "loss": ["test"],
        "held_out": [
            {
                "name": "neutral",
                "data": {"source": "neutral.jsonl", "format": "text"},
                "divergence": True,
            }
        ],
    }
    recipe["gates"] = [
        {"metric": "neutral.kl", "claim": "ceiling", "at": 50.0},
        {"metric": "neutral.loss", "claim": "non_inferior", "margin": 50.0},
    ]
    return recipe


def test_a_set_is_measured_and_gated(
    tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_recipe(with_set(tiny_recipe, tmp_path))
    folder = carried_out(path, tmp_path / "runs")
    evidence = read_evidence(folder.evidence)
    divergence = evidence.measurement("neutral.kl", "adapter")
    assert divergence is not None and divergence.value > 0 and divergence.examples == 12
    of_base = evidence.measurement("neutral.kl", "base")
    assert of_base is not None and of_base.value == 0.0
    assert evidence.measurement("test.kl", "adapter") is None
    assert [gate.verdict for gate in read_verdict(folder.verdict).gates] == ["PASS", "PASS"]
    topics = {s.name for s in evidence.slices if s.partition == "test" and s.kind == "column"}
    assert topics == {"odd", "even"}
    lock = json.loads(folder.lock.read_text())
    assert set(lock["partitions"]) == {"train", "validation", "test", "neutral"}
    assert lock["sets"]["neutral"]["files"][0]["name"] == "neutral.jsonl"
    report = folder.report.read_text()
    assert "Divergence from the base (KL)" in report
    assert "Loss of test by the declared column" in report


def test_another_set_is_another_evaluation_of_the_same_adapter(
    tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = with_set(tiny_recipe, tmp_path)
    recipe["evaluation"]["loss"] = []
    path = write_recipe(recipe)
    first = carried_out(path, tmp_path / "runs")
    # That the adapter sits on the base that was evaluated is shown by the set's rows.
    assert json.loads(first.reload.read_text())["base_rows_repeated"] == 8
    trained = json.loads(first.training.read_text())["adapter_digest"]
    sets = tmp_path / "neutral.jsonl"
    sets.write_text(sets.read_text() + json.dumps({"text": "One more."}) + "\n")
    second = carried_out(path, tmp_path / "runs")
    assert second.path == first.path  # nothing is learned from a set
    assert json.loads(second.training.read_text())["adapter_digest"] == trained
    measured = read_evidence(second.evidence).measurement("neutral.loss", "adapter")
    assert measured is not None and measured.examples == 13


def test_rows_of_a_set_that_were_trained_on_are_no_clean_ones(
    tiny_recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    """Planted: a set was never compared with train, and its leaked rows passed as clean."""
    trained = (tmp_path / "rows.jsonl").read_text().splitlines()[:4]
    asked = ["Name three fruits.", "What is the capital of Peru?", "Write a haiku about rain."]
    new = [{"instruction": text, "input": "", "output": "def f(x): ..."} for text in asked]
    (tmp_path / "other.jsonl").write_text(
        "".join(f"{line}\n" for line in [*trained, *map(json.dumps, new)])
    )
    tiny_recipe["evaluation"] = {
        "loss": ["test"],
        "instrument_check": 0,
        "held_out": [{"name": "other", "data": {"source": "other.jsonl"}}],
    }
    tiny_recipe["gates"] = [{"metric": "other.clean.loss", "claim": "superior"}]
    folder = carried_out(write_recipe(tiny_recipe), tmp_path / "runs")
    evidence = read_evidence(folder.evidence)
    leaked = evidence.leaks_of("other.loss")
    assert leaked is not None and (leaked.examples, leaked.leaked) == (7, 4)
    on_clean = evidence.measurement("other.clean.loss", "adapter")
    assert on_clean is not None and on_clean.examples == 3
    assert json.loads(folder.data.read_text())["leaks"]["leaked"] == {"other": 4}
    assert "other: 4 of 7 rows" in (folder.path / "run.log").read_text()
