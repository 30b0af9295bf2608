"""Bad input, as a user meets it: one clear message, the right code, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.cli import guarded
from runner.commands.run import run
from runner.run_folder import RunFolder, held
from tests.conftest import ROOT

Recipe = dict[str, Any]
Change = Callable[[Recipe, Path], None]


def set_rows(recipe: Recipe, folder: Path, rows: list[Any]) -> None:
    """Replace the recipe's data."""
    (folder / "rows.json").write_text(json.dumps(rows))
    recipe["dataset"]["source"] = "rows.json"
    recipe["dataset"].pop("columns", None)


def row(**columns: Any) -> dict[str, Any]:
    return {"instruction": "Add.", "input": "", "output": "1 + 1", **columns}


def missing_file(recipe: Recipe, folder: Path) -> None:
    recipe["dataset"]["source"] = "nowhere.jsonl"


def empty_data(recipe: Recipe, folder: Path) -> None:
    set_rows(recipe, folder, [])


def row_without_column(recipe: Recipe, folder: Path) -> None:
    set_rows(recipe, folder, [row(), {"instruction": "x", "input": ""}])


def value_that_is_no_text(recipe: Recipe, folder: Path) -> None:
    set_rows(recipe, folder, [row(), row(output=7)])


def broken_template(recipe: Recipe, folder: Path) -> None:
    recipe["template"] = {"user": "{{ instruction "}


def raising_template(recipe: Recipe, folder: Path) -> None:
    recipe["template"] = {"user": "{{ instruction }} {{ context }}"}


def answer_never_rendered(recipe: Recipe, folder: Path) -> None:
    (folder / "chat.jinja").write_text("{% for m in messages %}{{ m.role }}{% endfor %}")
    recipe["template"] = {"chat": "chat.jinja"}


def targets_match_nothing(recipe: Recipe, folder: Path) -> None:
    recipe["lora"]["target_modules"] = ["query"]


def unknown_optimizer(recipe: Recipe, folder: Path) -> None:
    recipe["training"]["optimizer"] = "adamm"


def padding_not_in_vocabulary(recipe: Recipe, folder: Path) -> None:
    recipe["model"]["pad_token"] = "<pad>"


def padding_is_the_end(recipe: Recipe, folder: Path) -> None:
    recipe["model"]["pad_token"] = "</s>"


def no_test_rows(recipe: Recipe, folder: Path) -> None:
    set_rows(recipe, folder, [row()])


def all_too_long(recipe: Recipe, folder: Path) -> None:
    recipe["template"] = {"max_length": 4}


def unknown_model(recipe: Recipe, folder: Path) -> None:
    recipe["model"]["base"] = "./no/such/model"


def hub_model_offline(recipe: Recipe, folder: Path) -> None:
    recipe["model"]["base"] = "somebody/some-model"


def hub_data_offline(recipe: Recipe, folder: Path) -> None:
    recipe["dataset"]["source"] = "somebody/some-data"


def no_cuda(recipe: Recipe, folder: Path) -> None:
    recipe["hardware"]["device"] = "cuda"


def awq_checkpoint(recipe: Recipe, folder: Path) -> None:
    base = folder / "awq"
    shutil.copytree(recipe["model"]["base"], base)
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (base / "config.json").write_text(json.dumps(config))
    recipe["model"]["base"] = str(base)


BAD: list[tuple[Change, int, str]] = [
    (missing_file, 4, "nowhere.jsonl"),
    (empty_data, 4, "no rows"),
    (row_without_column, 4, "output"),
    (value_that_is_no_text, 4, "output"),
    (broken_template, 2, "template.user"),
    (raising_template, 4, "context"),
    (answer_never_rendered, 4, "template.chat"),
    (targets_match_nothing, 2, "q_proj"),
    (unknown_optimizer, 2, "adamw"),
    (padding_not_in_vocabulary, 4, "<pad>"),
    (padding_is_the_end, 4, "model.pad_token"),
    (no_test_rows, 4, "test"),
    (all_too_long, 4, "max_length"),
    (unknown_model, 4, "no such folder"),
    (hub_model_offline, 4, "cannot be reached"),
    (hub_data_offline, 4, "somebody/some-data"),
    (no_cuda, 4, "no CUDA device"),
    (awq_checkpoint, 2, "is quantized with awq, which proofbox does not train on"),
]


@pytest.mark.parametrize(("change", "code", "said"), BAD, ids=lambda v: getattr(v, "__name__", ""))
def test_bad_input(
    change: Change,
    code: int,
    said: str,
    tiny_recipe: Recipe,
    write_recipe: Callable[[Recipe], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(tiny_recipe, tmp_path)
    path = write_recipe(tiny_recipe)
    ended = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    error = capsys.readouterr().err
    assert ended == code, error
    assert said in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("verdict.json"))


def test_a_run_folder_that_cannot_be_written(
    tiny_recipe: Recipe, write_recipe: Callable[[Recipe], Path], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    path = write_recipe(tiny_recipe)
    ended = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    assert ended == 4
    assert "the run folder cannot be written (Not a directory)" in capsys.readouterr().err


def test_a_disk_that_is_nearly_full_is_refused_first(
    tiny_recipe: Recipe,
    write_recipe: Callable[[Recipe], Path],
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000})())
    path = write_recipe(tiny_recipe)
    ended = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    assert ended == 4
    assert "needs about 0.05 GB" in capsys.readouterr().err


def test_a_disk_that_fills_up_is_explained(
    tiny_recipe: Recipe, write_recipe: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    """Stand-in for a full disk that needs no rights: files may not grow past 4 kB."""

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    path = write_recipe(tiny_recipe)
    done = subprocess.run(
        [sys.executable, "-m", "runner", "run", str(path), "--runs", str(tmp_path / "runs")],
        cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=small_files,
        env={**os.environ, "PROOFBOX_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "File too large" in done.stderr
    assert "defect of proofbox" not in done.stderr
    assert not list((tmp_path / "cache").rglob("prepared.json"))


def test_the_same_run_twice_at_once(
    tiny_recipe: Recipe, write_recipe: Callable[[Recipe], Path], tmp_path: Path, capsys: Any
) -> None:
    from runner.plan import make_plan

    path = write_recipe(tiny_recipe)
    plan = make_plan(path, runs=tmp_path / "runs")
    program = f"""
import time
from pathlib import Path
from runner.run_folder import RunFolder, held
with held(RunFolder(Path({str(plan.folder.path)!r}))):
    print("held", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        ended = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
        assert ended == 4
        assert f"process {other.pid} on" in capsys.readouterr().err
    finally:
        other.kill()
        other.wait()
    with held(RunFolder(plan.folder.path)):
        pass
