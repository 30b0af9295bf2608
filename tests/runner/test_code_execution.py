"""A backend that does not work stops a run before anything is trained, with exit code 4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evalsuite.records import CodeExecution
from evalsuite.sandbox import bubblewrap, check_backend
from runner import stages
from runner.cli import main
from runner.plan import make_plan
from runner.progress import Progress

Recipe = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture
def code_recipe(tiny_recipe: Recipe) -> Recipe:
    task = {"name": "answers", "metrics": ["tests_passed"], "decoding": {"max_new_tokens": 4}}
    dataset = {**tiny_recipe["dataset"], "columns": {"tests": "tests"}}
    evaluation = {"generation": [task], "code_execution": {"backend": "bubblewrap"}}
    return {**tiny_recipe, "dataset": dataset, "evaluation": evaluation}


@pytest.fixture
def no_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATH", str(tmp_path))
    bubblewrap._executable.cache_clear()
    yield
    bubblewrap._executable.cache_clear()


@pytest.mark.usefixtures("no_bubblewrap")
def test_plan_and_run_refuse_before_anything_is_done(
    code_recipe: Recipe,
    write_recipe: Write,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, runs = write_recipe(code_recipe), tmp_path / "runs"
    for command in ("plan", "run"):
        monkeypatch.setattr("sys.argv", ["proofbox", command, str(path), "--runs", str(runs)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 4
        said = " ".join(capsys.readouterr().err.split())
        assert "bubblewrap is not installed: there is no bwrap on PATH. Install it" in said
    assert not list(runs.rglob("*.json"))


def test_subprocess_is_announced_as_unsafe(
    code_recipe: Recipe, write_recipe: Write, tmp_path: Path, capsys: Any
) -> None:
    code_recipe["evaluation"]["code_execution"] = {"backend": "subprocess", "seconds": 2}
    plan = make_plan(write_recipe(code_recipe), runs=tmp_path / "runs")
    execution = CodeExecution(backend="subprocess", seconds=2)
    assert stages.code_execution_of(plan) == execution
    plan.folder.path.mkdir(parents=True)
    stages.start(plan, restart=False, progress=Progress())
    captured = capsys.readouterr()
    said = " ".join((captured.out + captured.err).split())
    assert f"answers' code runs in {check_backend(execution)}" in said
    assert "subprocess (unsafe: limits only)" in said


def test_the_evaluation_depends_on_backend_version_and_limits(
    code_recipe: Recipe, write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(write_recipe(code_recipe), runs=tmp_path / "runs")
    data = stages.prepared(plan, Progress())
    monkeypatch.setattr(bubblewrap, "_version_text", lambda: "bubblewrap 0.8.0")
    first = stages.inputs_of(plan, data, "base")
    assert stages.inputs_of(plan, data, "base") == first
    monkeypatch.setattr(bubblewrap, "_version_text", lambda: "bubblewrap 0.11.0")
    assert stages.inputs_of(plan, data, "base") != first
