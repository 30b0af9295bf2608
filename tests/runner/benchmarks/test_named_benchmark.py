"""Benchmarks found: where their paths start, and what makes one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.benchmarks import lm_eval_source
from runner.benchmarks.lm_eval_source import check_lm_eval, lm_eval_identity
from runner.benchmarks.named_benchmark import NamedBenchmark, resolve_benchmarks
from runner.errors import DataError, MachineError
from tests.runner.benchmarks.made_benchmarks import make, write_rows
from tests.runner.tiny_data import make_recipe

TEXT = """\
name: quiz
dataset: {source: rows.jsonl}
chat: chat.jinja
few_shot: {count: 1, source: shots.jsonl}
metrics: [{file: "scores.py:Score"}]
"""
ROW = {"instruction": "a", "input": "", "output": "b"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "quiz.yaml").write_text(TEXT, encoding="utf-8")
    (inner / "chat.jinja").write_text("{{ messages }}", encoding="utf-8")
    (inner / "scores.py").write_text("class Score: ...\n", encoding="utf-8")
    for name in ("rows", "shots"):
        write_rows(inner / f"{name}.jsonl", [ROW])
    return tmp_path


def found(folder: Path) -> NamedBenchmark:
    recipe = make_recipe(evaluation={"benchmarks": ["inner/quiz.yaml"]})
    (benchmark,) = resolve_benchmarks(recipe, folder)
    return benchmark


def test_paths_start_where_the_benchmark_is(folder: Path) -> None:
    benchmark = found(folder)
    inner = folder / "inner"
    assert benchmark.source.files[0].path == str(inner / "rows.jsonl")
    assert benchmark.shots is not None
    assert benchmark.shots.files[0].path == str(inner / "shots.jsonl")
    assert benchmark.chat == str(inner / "chat.jinja")
    assert benchmark.file == "inner/quiz.yaml"
    assert str(folder) not in str(benchmark.as_json())


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("quiz.yaml", "count: 1", "count: 2"),
        ("rows.jsonl", '"a"', '"c"'),
        ("shots.jsonl", '"a"', '"c"'),
        ("chat.jinja", "messages", "messages[0]"),
        ("scores.py", "...", "x = 1"),
    ],
)
def test_the_digest_is_of_all_that_figures_depend_on(
    folder: Path, file: str, old: str, new: str
) -> None:
    before = found(folder).digest
    assert found(folder).digest == before
    path = folder / "inner" / file
    path.write_text(path.read_text().replace(old, new), encoding="utf-8")
    assert found(folder).digest != before


def test_a_description_changes_no_figure(folder: Path) -> None:
    before = found(folder).digest
    path = folder / "inner" / "quiz.yaml"
    path.write_text(f"{TEXT}description: Other words\n", encoding="utf-8")
    assert found(folder).digest == before


def test_errors_name_the_benchmark_and_its_own_keys(folder: Path) -> None:
    (folder / "inner" / "rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"^benchmark quiz: dataset\.source: 'rows\.jsonl'"):
        found(folder)
    write_rows(folder / "asked.jsonl", [ROW])
    block: dict[str, Any] = {
        "name": "asked",
        "dataset": {"source": "asked.jsonl"},
        "prompt": "{{ instruction[5].x }}",
        "metrics": ["rouge"],
    }
    with pytest.raises(DataError, match=r"benchmark asked: .*: prompt raised UndefinedError"):
        make(folder, block)


def test_the_row_that_is_too_long_stops_the_run_or_is_left_out(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "instruction": "very " * 60}]
    write_rows(tmp_path / "asked.jsonl", rows)
    block: dict[str, Any] = {
        "name": "asked", "dataset": {"source": "asked.jsonl"}, "metrics": ["rouge"],
        "max_length": 60,
    }  # fmt: skip
    told = r"(?s)^benchmark asked: .*\n  too_long: 1 row .*row 1 \(asked-as-asked\.jsonl:2, \d+ tok"
    with pytest.raises(DataError, match=told) as raised:
        make(tmp_path, block)
    assert "preview" not in str(raised.value)
    made = make(tmp_path, {**block, "too_long": "drop"})
    assert made.column("asked", "row") == [0]


# lm-eval


def test_without_the_extra_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(evaluation={"lm_eval": {"tasks": ["arc_easy"]}})
    monkeypatch.setattr(lm_eval_source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"pip install 'proofbox\[lm-eval\]'"):
        check_lm_eval(recipe, tmp_path)
    check_lm_eval(make_recipe(), tmp_path)


def test_the_folder_of_tasks_must_be_there_and_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval_source.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(lm_eval_source, "version", lambda name: "0.4.13")
    recipe = make_recipe(evaluation={"lm_eval": {"tasks": ["mine"], "include_path": "tasks"}})
    with pytest.raises(MachineError, match="'tasks' is no folder"):
        check_lm_eval(recipe, tmp_path)
    tasks = tmp_path / "tasks"
    (tasks / "__pycache__").mkdir(parents=True)
    (tasks / "mine.yaml").write_text("task: mine\n")
    check_lm_eval(recipe, tmp_path)
    before = lm_eval_identity(recipe, tmp_path)
    (tasks / "__pycache__" / "code.pyc").write_bytes(b"compiled")
    assert lm_eval_identity(recipe, tmp_path) == before
    (tasks / "rows.jsonl").write_text("{}\n")
    assert lm_eval_identity(recipe, tmp_path) != before
    assert lm_eval_identity(make_recipe(), tmp_path) is None
