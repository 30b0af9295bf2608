"""`proofbox run --self-test` and `plan --check`: what is printed, the exit code, what is left."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.cli import guarded
from runner.commands.plan import plan
from runner.commands.run import run
from runner.errors import ExitCode, UsageError
from runner.training import self_test
from runner.training.self_check import Check, within
from runner.training.self_test import SelfTest

PASSES = Check(name="what holds", found="0", allowed="none", outcome="pass")
FAILS = within("what does not", 0.5, 1e-4, advice="Do otherwise.")


@pytest.fixture
def recipe(
    tmp_path: Path,
    tiny_recipe: dict[str, Any],
    write_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The tiny recipe; its temporary folders are in ``temporary`` beside it."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("COLUMNS", "200")
    return str(write_recipe(tiny_recipe))


def left_behind(tmp_path: Path) -> list[str]:
    """Whatever is there that was not there before."""
    before = {"recipe.json", "rows.jsonl", "temporary"}
    return [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.name not in before]


def self_tested(recipe: str, tmp_path: Path, **options: Any) -> int:
    given = {"runs": tmp_path / "runs", "device": None, "restart": False, **options}
    return guarded(lambda: run(recipe, self_test=True, **given))


def finds(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> None:
    """Let the self-test come to these results at once."""

    def found(*_: Any, **__: Any) -> SelfTest:
        return SelfTest(device="cpu", dtype="float32", lengths=(10, 20), checks=checks)

    monkeypatch.setattr(self_test, "self_test", found)


def test_a_self_test_prints_a_table_and_leaves_no_run(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert self_tested(recipe, tmp_path) == ExitCode.PASS
    printed = capsys.readouterr().out
    lines = [line.split("  ")[0] for line in printed.splitlines()]
    assert lines[:8] == ["result", *["pass"] * 7]
    assert "4 steps, continued after 2 against in one go  0 " in printed
    assert "The self-test passes. Tested on cpu in float32, on examples of " in printed
    assert left_behind(tmp_path) == []


def test_a_check_that_fails_says_what_to_do_and_ends_with_an_error(
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finds(monkeypatch, PASSES, FAILS)
    assert self_tested(recipe, tmp_path) == ExitCode.ENVIRONMENT
    printed = capsys.readouterr().out
    assert "fail    what does not  0.5    at most 0.0001" in printed
    assert "what does not: Do otherwise.\nThe self-test fails in 1 of 2 checks." in printed
    assert "what holds:" not in printed


def test_ctrl_c_leaves_nothing(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_recipe: Any, _loaded: Any, _rows: Any, folder: Any, **_: Any) -> None:
        (folder.path / "checkpoints").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(self_test, "train_adapter", stopped)
    assert self_tested(recipe, tmp_path) == ExitCode.INTERRUPTED
    assert left_behind(tmp_path) == []


def test_options_that_a_self_test_would_not_heed_are_refused(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out --restart, --devices"):
        run(recipe, runs=tmp_path, device=None, restart=True, devices=2, self_test=True)


@pytest.mark.parametrize("form", ["text", "json"])
def test_plan_check_adds_the_self_test_to_the_plan(
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    finds(monkeypatch, PASSES, FAILS)
    code = plan(recipe, runs=tmp_path / "runs", device=None, format=form, check=True)
    assert code == ExitCode.ENVIRONMENT
    printed = capsys.readouterr().out
    if form == "json":
        assert json.loads(printed)["self_test"]["checks"][1]["advice"] == "Do otherwise."
    else:
        assert printed.index("  device  ") < printed.index("what does not")
    assert not list((tmp_path / "runs").rglob("training.json"))
    assert not list((tmp_path / "temporary").iterdir())
    finds(monkeypatch, PASSES)
    code = plan(recipe, runs=tmp_path / "runs", device=None, format=form, check=True)
    assert code == ExitCode.PASS
