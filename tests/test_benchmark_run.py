"""A run with benchmarks of every kind: prepared, asked, weighed, judged, released, verified."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from evalsuite.record_files import read_evidence, read_verdict
from runner.run_folder import RunFolder, open_run
from tests.conftest import ROOT

HAS_HARNESS = importlib.util.find_spec("lm_eval") is not None
QUIZ = """\
name: quiz
dataset: {source: quiz.jsonl, format: alpaca, columns: {instruction: q, input: null, output: a}}
prompt: "Question: {{ instruction }}"
few_shot: {count: 2}
decoding: {max_new_tokens: 6}
stop: ["\\n"]
metrics: [exact_match, chrf]
"""


def proofbox(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("project")
    rows = [{"instruction": f"Add {n} to x.", "input": "", "output": f"x + {n}"} for n in range(60)]
    write_rows(folder / "rows.jsonl", rows)
    benchmarks = folder / "benchmarks"
    benchmarks.mkdir()
    (benchmarks / "quiz.yaml").write_text(QUIZ, encoding="utf-8")
    quiz = [{"q": f"Add {n} to x.", "a": f"x + {n}"} for n in (3, 4, 100, 101, 102, 103)]
    write_rows(benchmarks / "quiz.jsonl", quiz)
    write_rows(
        folder / "choose.jsonl",
        [{"q": f"What is {n} more than x?", "c": [f"x + {n}", "x", f"y {n}"], "g": 0}
         for n in range(100, 112)],
    )  # fmt: skip
    evaluation: dict[str, Any] = {
        "loss": ["test"],
        "benchmarks": [
            "benchmarks/quiz.yaml",
            {"name": "choose", "kind": "multiple_choice", "leaks": "ignore",
             "dataset": {"source": "choose.jsonl", "columns": {"instruction": "q", "input": None}},
             "choices": {"column": "c", "gold": "g"}},
        ],
    }  # fmt: skip
    gates: list[dict[str, Any]] = [
        {"metric": "test.loss", "claim": "superior", "margin": 0.1},
        {"metric": "quiz.clean.exact_match", "claim": "non_inferior", "margin": 0.9},
        {"metric": "choose.accuracy", "claim": "non_inferior", "margin": 0.9},
    ]
    if HAS_HARNESS:
        tasks = folder / "tasks"
        tasks.mkdir()
        write_rows(tasks / "rows.jsonl", [{"q": f"Add {n} to x.", "g": n % 2} for n in range(8)])
        (tasks / "parity.yaml").write_text(
            "task: parity\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\n"
            "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\n"
            "doc_to_choice: [even, odd]\ndoc_to_target: g\nmetric_list: [{metric: acc}]\n"
        )
        evaluation["lm_eval"] = {"tasks": ["parity"], "include_path": "tasks"}
        gates.append({"metric": "parity.acc", "claim": "non_inferior", "margin": 0.9})
    recipe = {
        "version": 1,
        "name": "asked",
        "dataset": {
            "source": "rows.jsonl",
            "partition": {"by": "position", "train": 0.5, "validation": 0.1, "test": 0.4},
            "leaks": {"near": "ignore"},
        },
        "model": {"base": str(tiny_model_folder), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8, "target_modules": "all-linear"},
        "training": {"max_steps": 30, "batch_size": 8, "learning_rate": 0.02},
        "evaluation": evaluation,
        "gates": gates,
        "hardware": {"device": "cpu", "threads": 1},
    }
    (folder / "asked.json").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def finished(project: Path) -> RunFolder:
    done = proofbox("run", project / "asked.json", "--runs", project / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    return open_run(project / "runs" / "asked")


def test_every_benchmark_is_measured_paired_and_judged(finished: RunFolder) -> None:
    evidence = read_evidence(finished.evidence)
    wanted = ["quiz.exact_match", "quiz.chrf", "choose.accuracy", "choose.accuracy_per_byte"]
    wanted += ["parity.acc"] if HAS_HARNESS else []
    for metric in wanted:
        for subject in ("base", "adapter"):
            found = evidence.measurement(metric, subject)
            assert found is not None
            assert found.low <= found.value <= found.high, metric
        assert evidence.difference(metric) is not None
    gates = read_verdict(finished.verdict).gates
    assert {gate.verdict for gate in gates} == {"PASS"}


def test_plan_counts_questions_and_not_their_choices(finished: RunFolder, project: Path) -> None:
    runs = finished.path.parent.parent
    done = proofbox("plan", project / "asked.json", "--runs", runs, "--format", "json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["forecast"]["gates"]
    (choose,) = (sentence for sentence in said if sentence.startswith("choose.accuracy"))
    assert "with 12 examples" in choose


def test_rows_that_train_asks_are_listed_and_left_out_of_clean_figures(finished: RunFolder) -> None:
    evidence = read_evidence(finished.evidence)
    leaks = {found.group: (found.examples, found.leaked) for found in evidence.leaked}
    assert leaks["quiz"] == (6, 2)
    assert "choose" not in leaks  # nobody looked
    clean = evidence.measurement("quiz.clean.chrf", "adapter")
    assert clean is not None
    assert clean.examples == 4
    listed = parquet.read_table(finished.listings / "leaks.parquet").to_pylist()
    of_quiz = [pair for pair in listed if pair["second_partition"] == "quiz"]
    assert {pair["second_text"] for pair in of_quiz} == {"Add 3 to x.", "Add 4 to x."}
    ids = parquet.read_table(finished.evaluation / "base" / "quiz.parquet")["example_id"]
    assert {pair["second_example_id"] for pair in of_quiz} <= set(ids.to_pylist())
    told = json.loads(finished.data.read_text())["leaks"]
    assert (told["compared"]["quiz"], told["leaked"]["quiz"]) == (6, 2)
    if HAS_HARNESS:
        assert leaks["parity"] == (8, 8)
        assert told["leaked"]["parity"] == 8


def test_shown_rows_are_of_train_and_never_the_one_that_is_asked(finished: RunFolder) -> None:
    rows = parquet.read_table(finished.evaluation / "base" / "quiz.parquet").to_pylist()
    for row in rows:
        asked = row["prompt"].rpartition("[INST] Question: ")[2].removesuffix(" [/INST]")
        assert row["prompt"].count("[INST] Add ") == 2
        assert f"[INST] {asked} [/INST]" not in row["prompt"]


def test_the_lock_holds_each_benchmark_as_it_was(finished: RunFolder, project: Path) -> None:
    lock = json.loads(finished.lock.read_text())
    quiz, choose = lock["benchmarks"]
    assert (quiz["file"], choose["file"]) == ("benchmarks/quiz.yaml", None)
    assert quiz["block"]["prompt"] == "Question: {{ instruction }}"
    assert str(project) not in json.dumps(lock["benchmarks"])
    released = json.loads((finished.release / "lock.json").read_text())
    assert released["benchmarks"] == lock["benchmarks"]
    assert {"quiz", "choose"} <= lock["partitions"].keys()


def test_the_release_verifies_without_the_benchmark_files(finished: RunFolder) -> None:
    done = proofbox("verify", finished.release)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_another_benchmark_is_another_evaluation_but_not_another_training(
    finished: RunFolder, project: Path
) -> None:
    """Last, because it changes the project."""
    command = ("run", project / "asked.json", "--runs", project / "runs")
    again = proofbox(*command)
    assert again.returncode == 0
    assert again.stderr.count("done before") == 3
    trained = finished.training.read_bytes()
    path = project / "benchmarks" / "quiz.yaml"
    path.write_text(QUIZ.replace("count: 2", "count: 1"), encoding="utf-8")
    changed = proofbox(*command)
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert "the release is withdrawn" in changed.stderr
    assert changed.stderr.count("done before") == 1
    assert finished.training.read_bytes() == trained
    rows = parquet.read_table(finished.evaluation / "adapter" / "quiz.parquet").to_pylist()
    assert all(row["prompt"].count("[INST] Add ") == 1 for row in rows)
