"""Train rows that ask what a benchmark asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from runner.benchmarks.benchmark_leaks import find_benchmark_leaks
from runner.data.leaks.leak_report import LEAKED_FILE, PAIRS_FILE
from runner.errors import DataError
from tests.runner.benchmarks.made_benchmarks import make, write_rows

LONG = "Write a function that takes a list of numbers and gives the sum of all that are even"
TRAIN = [
    {"instruction": text, "input": "", "output": f"answer {n}"}
    for n, text in enumerate([f"{LONG}.", *(f"Say {word}." for word in "abcdefghi")])
]
BLOCK: dict[str, Any] = {
    "name": "asked",
    "dataset": {"source": "asked.jsonl", "format": "alpaca", "columns": {"input": None}},
    "prompt": "Task: {{ instruction }}\nYour answer, please:",
    "system": "You are asked in another way than in training.",
    "metrics": ["exact_match"],
}
ASKED = [
    {"instruction": "Say  b.", "output": "x"},  # equal but for white space
    {"instruction": f"{LONG}!", "output": "x"},  # nearly equal
    {"instruction": "Something else altogether, which nobody was trained on.", "output": "x"},
    {"instruction": "Say i.", "output": "x"},  # equal to a held-out row: not in train
]


def test_equal_and_nearly_equal_questions_are_found_whatever_is_around_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "asked.jsonl", ASKED)
    made = make(tmp_path, BLOCK, train=TRAIN)
    leaks = find_benchmark_leaks(made.data, made.recipe, made.benchmarks)
    assert leaks is not None
    found = {row.row: row.kind for row in leaks.found.leaked}
    assert found == {0: "exact", 1: "near"}
    report = leaks.report(made.data.leaks)
    assert (report.compared["asked"], report.leaked) == (4, {"asked": 2})
    assert report.compared["train"] == made.data.leaks.compared["train"]
    assert report.dropped == made.data.leaks.dropped == 0
    assert {c.policy for c in report.counts if c.second == "asked"} == {"warn"}
    assert leaks.summary() == ("  warning: asked: 2 of 4 rows ask what a train row asks, or nearly")


def test_what_leaks_is_added_to_the_lists_once(tmp_path: Path) -> None:
    write_rows(tmp_path / "asked.jsonl", ASKED)
    made = make(tmp_path, BLOCK, train=TRAIN)
    leaks = find_benchmark_leaks(made.data, made.recipe, made.benchmarks)
    assert leaks is not None
    folder = Path(made.data.folder)
    for _ in range(2):
        leaks.add_to(folder)
    pairs = parquet.read_table(folder / PAIRS_FILE).to_pylist()
    leaked = parquet.read_table(folder / LEAKED_FILE).to_pylist()
    assert [(p["kind"], p["first_row"], p["second_row"]) for p in pairs] == [
        ("exact", 2, 0), ("near", 0, 1)
    ]  # fmt: skip
    ids = made.column("asked", "example_id")
    assert [row["example_id"] for row in leaked] == ids[:2]
    train = parquet.read_table(made.data.path("train")).to_pylist()
    assert pairs[0]["first_example_id"] == train[2]["example_id"]


def test_multiple_choice_leaks_by_item(tmp_path: Path) -> None:
    rows = [{"instruction": q, "c": ["x", "y"], "g": 1} for q in ("Say b.", "Say z, as never.")]
    write_rows(tmp_path / "asked.jsonl", rows)
    block = {
        **BLOCK, "metrics": [], "kind": "multiple_choice", "choices": {"column": "c", "gold": "g"}
    }  # fmt: skip
    made = make(tmp_path, block, train=TRAIN)
    leaks = find_benchmark_leaks(made.data, made.recipe, made.benchmarks)
    assert leaks is not None
    assert leaks.found.report.leaked == {"asked": 1}
    assert list(leaks.ids["asked"]) == [0, 1]


@pytest.mark.parametrize(("policy", "searched"), [("ignore", False), ("warn", True)])
def test_a_benchmark_may_leave_it_out(tmp_path: Path, policy: str, searched: bool) -> None:
    write_rows(tmp_path / "asked.jsonl", ASKED)
    made = make(tmp_path, {**BLOCK, "leaks": policy}, train=TRAIN)
    found = find_benchmark_leaks(made.data, made.recipe, made.benchmarks)
    assert (found is not None) == searched


def test_or_stop_the_run(tmp_path: Path) -> None:
    write_rows(tmp_path / "asked.jsonl", ASKED)
    made = make(tmp_path, {**BLOCK, "leaks": "error"}, train=TRAIN)
    with pytest.raises(DataError, match="benchmark asked: 2 of its rows ask what a train row asks"):
        find_benchmark_leaks(made.data, made.recipe, made.benchmarks)


def test_a_benchmark_drops_no_row_of_train(tmp_path: Path) -> None:
    write_rows(tmp_path / "asked.jsonl", ASKED)
    with_it = make(tmp_path, BLOCK, train=TRAIN).data
    without = make(tmp_path, train=TRAIN).data
    assert with_it.partitions == without.partitions
    assert with_it.key == without.key
