"""``proofbox validate`` and ``proofbox schema``: what they print, and what they import."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from runner.commands.schema import schema
from runner.commands.validate import validate
from runner.errors import ExitCode
from runner.recipe_reading.recipe_schema import published_schema

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "datasets", "pandas", "numpy", "trl", "peft", "evaluate", "scipy")
GOOD = "version: 1\nname: a\ndataset: {source: x.csv}\nmodel: {base: b}\ntraining: {epochs: 1}\n"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    Path("bad.yaml").write_text(GOOD.replace("epochs", "epocs"), encoding="utf-8")
    return [Path("bad.yaml"), Path("missing.yaml"), Path("good.yaml")]


def test_every_file_is_checked_before_it_ends(files: list[Path], capsys: Captured) -> None:
    assert validate(files) == ExitCode.RECIPE
    assert capsys.readouterr().out == (
        "bad.yaml:5:12: training.epocs: unknown key. Did you mean epochs?\n"
        "missing.yaml:1:1: there is no such file\n"
        "good.yaml: valid\n"
    )


def test_a_valid_file_passes(files: list[Path], capsys: Captured) -> None:
    assert validate(files[2:]) == ExitCode.PASS
    assert capsys.readouterr().out == "good.yaml: valid\n"


def test_faults_as_json(files: list[Path], capsys: Captured) -> None:
    assert validate(files, "json") == ExitCode.RECIPE
    assert json.loads(capsys.readouterr().out) == [
        {
            "file": "bad.yaml",
            "line": 5,
            "column": 12,
            "key": "training.epocs",
            "message": "unknown key. Did you mean epochs?",
        },
        {
            "file": "missing.yaml",
            "line": 1,
            "column": 1,
            "key": "",
            "message": "there is no such file",
        },
    ]


def test_no_faults_as_json(files: list[Path], capsys: Captured) -> None:
    assert validate(files[2:], "json") == ExitCode.PASS
    assert json.loads(capsys.readouterr().out) == []


def test_faults_as_annotations_of_github(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "50%, a:b.yaml"
    path.write_text(f'{GOOD}template: {{chat: "5%\\nx"}}\n', encoding="utf-8")
    assert validate([path], "github") == ExitCode.RECIPE
    file = str(tmp_path / "50%25%2C a%3Ab.yaml")
    assert capsys.readouterr().out == (
        f"::error file={file},line=6,col=18::template.chat: '5%25\\nx' is not allowed. Chat "
        "template: tokenizer (the base model's own), chatml (built in), none (texts one after "
        "the other, ended by the end-of-sequence token), or the path of a .jinja file relative "
        "to this recipe.\n"
    )


def test_a_json_schema_among_the_files_is_checked_as_one(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "recipe.schema.json"
    path.write_text(json.dumps(published_schema()), encoding="utf-8")
    assert validate([path]) == ExitCode.PASS
    assert capsys.readouterr().out == f"{path}: valid (a JSON Schema)\n"
    path.write_text(json.dumps({**published_schema(), "type": "objekt"}), encoding="utf-8")
    assert validate([path]) == ExitCode.RECIPE
    assert "'objekt' is not valid" in capsys.readouterr().out


def test_a_recipe_that_names_the_wrong_schema_is_still_a_recipe(
    tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"$schema": published_schema()["$schema"], "version": 1}))
    assert validate([path]) == ExitCode.RECIPE
    assert "dataset: this key is missing" in capsys.readouterr().out


def test_a_name_that_no_file_can_have_is_told(capsys: Captured) -> None:
    assert validate([Path("x" * 5000), Path("x" * 5000 + ".yaml")]) == ExitCode.RECIPE
    assert capsys.readouterr().out.count("this cannot be read: File name too long") == 2


def test_a_shipped_recipe_may_be_given_by_name(files: list[Path], capsys: Captured) -> None:
    assert validate([Path("mistral-7b-gptq-code")]) == ExitCode.PASS
    assert capsys.readouterr().out.endswith("mistral-7b-gptq-code.yaml: valid\n")


def test_schema_prints_the_published_schema(capsys: Captured) -> None:
    schema()
    assert json.loads(capsys.readouterr().out) == published_schema()


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )


VALIDATE = f"""
import sys
from pathlib import Path
from runner.commands.validate import validate
code = validate([Path(name) for name in sys.argv[1:]])
print(int(code), [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


def _committed() -> list[str]:
    return [str(p) for p in sorted((ROOT / "recipes").iterdir()) if p.suffix in (".yaml", ".json")]


def test_validating_all_recipes_imports_nothing_heavy() -> None:
    done = _run(VALIDATE, *_committed())
    assert done.stderr == "0 []\n"
    assert len(done.stdout.splitlines()) == len(_committed())


def test_printing_the_schema_imports_nothing_heavy() -> None:
    code = f"""
import sys
from runner.commands.schema import schema
schema()
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    assert _run(code).stderr == "[]\n"


def test_validating_all_recipes_takes_less_than_half_a_second() -> None:
    """Of a processor: what else runs on the machine does not count."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _run(VALIDATE, *_committed())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    used = min(seconds() for _ in range(5))
    assert 0 < used < 0.5
