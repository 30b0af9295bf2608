"""The whole path on a tiny model, as a user runs it, and what can be done with a finished run."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalsuite.record_files import read_verdict
from runner.cli import guarded
from runner.commands.compare import compare
from runner.commands.finalize import finalize
from runner.commands.gate import gate
from runner.commands.release import release
from runner.run_folder import RunFolder, open_run
from runner.training.adapter_files import folder_digest
from tests.conftest import ROOT


def proofbox(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def recipe_file(project: Path, tiny_model_folder: Path) -> Path:
    rows = [{"instruction": f"Add {n} to x.", "input": "", "output": f"x + {n}"} for n in range(60)]
    (project / "rows.json").write_text(json.dumps(rows))
    recipe = {
        "version": 1,
        "name": "tiny",
        "dataset": {
            "source": "rows.json",
            "partition": {"by": "position", "train": 0.5, "validation": 0.1, "test": 0.4},
        },
        "model": {"base": str(tiny_model_folder), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8, "target_modules": "all-linear"},
        "training": {
            "max_steps": 30, "batch_size": 8, "learning_rate": 0.02, "log_every": 5,
            "validate_every": 15,
        },
        "evaluation": {
            "loss": ["test"],
            "generation": [
                {"name": "answers", "limit": 4, "decoding": {"max_new_tokens": 6},
                 "metrics": ["exact_match", "chrf"]}
            ],
            "samples": ["Add 1 to x."],
        },
        "gates": [{"metric": "test.loss", "claim": "superior", "margin": 0.1}],
        "hardware": {"device": "cpu", "threads": 1},
    }  # fmt: skip
    path = project / "tiny.json"
    path.write_text(json.dumps(recipe))
    return path


@pytest.fixture(scope="module")
def finished(project: Path, recipe_file: Path) -> RunFolder:
    done = proofbox("run", recipe_file, "--runs", project / "runs")
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
    return open_run(project / "runs" / "tiny")


@pytest.fixture
def run_copy(finished: RunFolder, tmp_path: Path) -> RunFolder:
    target = tmp_path / finished.path.name
    shutil.copytree(finished.path, target)
    return RunFolder(target)


def with_gates(recipe_file: Path, gates: list[dict[str, Any]], name: str) -> Path:
    recipe = json.loads(recipe_file.read_text())
    path = recipe_file.with_name(f"{name}.json")
    path.write_text(json.dumps({**recipe, "gates": gates}))
    return path


def test_a_run_leaves_every_record(finished: RunFolder) -> None:
    for path in (
        finished.lock, finished.data, finished.training, finished.evidence, finished.verdict,
        finished.report, finished.timings, finished.adapter / "adapter_model.safetensors",
        finished.evaluation / "base" / "loss.parquet",
        finished.evaluation / "adapter" / "answers.parquet",
    ):  # fmt: skip
        assert path.is_file(), path
    assert not list(finished.path.rglob("*.tmp"))
    assert read_verdict(finished.verdict).verdict == "PASS"


def test_no_path_of_this_machine_leaves_it(finished: RunFolder) -> None:
    for path in sorted(finished.release.rglob("*")):
        if path.suffix in {".json", ".html", ".md", ".yaml"}:
            text = path.read_text(encoding="utf-8")
            assert str(finished.path) not in text, path
            assert str(ROOT) not in text, path


def test_the_release_holds_what_its_checksums_say(finished: RunFolder) -> None:
    lines = (finished.release / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {
        p.relative_to(finished.release).as_posix()
        for p in finished.release.rglob("*")
        if p.is_file()
    }
    assert set(listed) == files - {"SHA256SUMS"}
    for name, digest in listed.items():
        content = (finished.release / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    assert read_verdict(finished.verdict).adapter_digest == folder_digest(finished.adapter)
    tokenizer = json.loads((finished.release / "tokenizer_config.json").read_text())
    assert tokenizer["padding_side"] == "left"


def test_a_finished_run_is_not_run_again(recipe_file: Path, finished: RunFolder) -> None:
    before = finished.training.stat().st_mtime_ns
    again = proofbox("run", recipe_file, "--runs", finished.path.parent.parent)
    assert again.returncode == 0
    assert again.stderr.count("done before") == 3
    assert finished.training.stat().st_mtime_ns == before


def test_a_damaged_evaluation_is_made_again(recipe_file: Path, finished: RunFolder) -> None:
    parquet = finished.evaluation / "adapter" / "loss.parquet"
    content = parquet.read_bytes()
    parquet.write_bytes(content[:-10])
    again = proofbox("run", recipe_file, "--runs", finished.path.parent.parent)
    assert again.returncode == 0
    assert "evaluated the adapter" in again.stderr
    assert parquet.read_bytes() == content


GATES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "passes": ([{"metric": "test.loss", "claim": "superior"}], 0),
    "misses": ([{"metric": "test.loss", "claim": "ceiling", "at": 0.01}], 1),
    "undecided": ([{"metric": "answers.chrf", "claim": "non_inferior", "margin": 1e-6}], 3),
}


@pytest.mark.parametrize("case", GATES)
def test_gate_and_release_by_verdict(case: str, run_copy: RunFolder, recipe_file: Path) -> None:
    gates, code = GATES[case]
    other = with_gates(recipe_file, gates, case)
    shutil.rmtree(run_copy.release)
    assert guarded(lambda: gate(run_copy.path, recipe=str(other))) == code
    released = guarded(lambda: release(run_copy.path, final=False))
    assert released != 0  # refused: judged by other gates than the run's own, or no PASS
    assert not run_copy.release.exists()


def test_a_metric_that_went_missing_is_an_error(run_copy: RunFolder, capsys: Any) -> None:
    evidence = json.loads(run_copy.evidence.read_text())
    for kind in ("measurements", "differences"):
        evidence[kind] = [e for e in evidence[kind] if e["metric"] != "test.loss"]
    run_copy.evidence.write_text(json.dumps(evidence))
    assert guarded(lambda: gate(run_copy.path, recipe=None)) == 4
    assert guarded(lambda: release(run_copy.path, final=False)) == 4
    assert "not released. The verdict is ERROR" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place",
    [
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "tokenizer/tokenizer.json",
        "tokenizer/chat_template.jinja",
        "evaluation/adapter/loss.parquet",
        "evaluation/base/answers.parquet",
        "evaluation/base/one-too-many.parquet",
        "recipe.json",
    ],
)
def test_a_changed_file_is_not_released(place: str, run_copy: RunFolder, capsys: Any) -> None:
    path = run_copy.path / place
    content = bytearray(path.read_bytes() if path.exists() else b"x")
    if path.suffix == ".json" and path.parent == run_copy.path:
        content = bytearray(content.replace(b'"r": 4', b'"r": 8'))
    else:
        content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert guarded(lambda: release(run_copy.path, final=False)) != 0
    assert "Traceback" not in capsys.readouterr().err


def test_the_other_format_of_the_recipe_does_not_linger(
    recipe_file: Path, finished: RunFolder, tmp_path: Path
) -> None:
    """A stale recipe.yaml beside a newer recipe.json once judged by its own, laxer gates."""
    import yaml

    shutil.copytree(finished.path.parent, tmp_path / "tiny")
    strict = json.loads(recipe_file.read_text())
    strict["gates"] = [{"metric": "test.loss", "claim": "ceiling", "at": 0.01}]
    as_yaml = recipe_file.with_suffix(".yaml")
    as_yaml.write_text(yaml.safe_dump(strict))
    assert proofbox("run", as_yaml, "--runs", tmp_path).returncode == 1
    run = open_run(tmp_path / "tiny")
    assert not (run.path / "recipe.json").exists()
    assert guarded(lambda: gate(run.path, recipe=None)) == 1
    assert guarded(lambda: release(run.path, final=False)) == 1


def test_another_evaluation_leaves_nothing_of_the_old_one(
    recipe_file: Path, finished: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(finished.path.parent, tmp_path / "tiny")
    run = open_run(tmp_path / "tiny")
    recipe = json.loads(recipe_file.read_text())
    recipe["evaluation"]["generation"][0]["name"] = "replies"
    recipe["evaluation"]["base"] = False
    recipe["gates"] = [{"metric": "test.loss", "claim": "ceiling", "at": 0.01}]
    other = recipe_file.with_name("renamed.json")
    other.write_text(json.dumps(recipe))
    planned = proofbox("plan", other, "--runs", tmp_path)
    assert "done before  train" in planned.stdout
    # Planning alone changes nothing: the old evidence still belongs to the old lock.
    assert guarded(lambda: gate(run.path, recipe=None)) == 0
    (run.evaluation / ".adapter.123").mkdir()
    done = proofbox("run", other, "--runs", tmp_path)
    assert done.returncode == 1, done.stderr
    assert sorted(p.name for p in run.evaluation.iterdir()) == ["adapter"]
    metrics = {m["metric"] for m in json.loads(run.evidence.read_text())["measurements"]}
    assert "replies.chrf" in metrics
    assert not any(name.startswith("answers.") for name in metrics)
    assert not run.release.exists()


def test_new_gates_do_not_train_again(recipe_file: Path, finished: RunFolder) -> None:
    gates = [{"metric": "test.loss", "claim": "ceiling", "at": 0.01}]
    stricter = with_gates(recipe_file, gates, "stricter")
    done = proofbox("run", stricter, "--runs", finished.path.parent.parent)
    assert done.returncode == 1
    assert "training: done before" in done.stderr
    assert not finished.release.exists()
    assert proofbox("run", recipe_file, "--runs", finished.path.parent.parent).returncode == 0


def test_finalize_fits_on_all_and_its_card_says_so(
    recipe_file: Path, finished: RunFolder, capsys: Any
) -> None:
    del recipe_file
    assert guarded(lambda: release(finished.path, final=True)) == 2
    assert "proofbox finalize" in capsys.readouterr().err
    assert guarded(lambda: finalize(finished.path, recipe=None, device=None)) == 0
    assert guarded(lambda: release(finished.path, final=True)) == 0
    card = (finished.final.release / "README.md").read_text()
    assert "train + validation + test" in card.replace("\n", " ")
    digests = {
        json.loads(folder.training.read_text())["adapter_digest"]
        for folder in (finished, finished.final)
    }
    assert len(digests) == 2
    finished.final.reload.unlink()
    assert guarded(lambda: release(finished.path, final=True)) == 4  # no proof of the saved one
    assert guarded(lambda: finalize(finished.path, recipe=None, device=None)) == 0
    assert guarded(lambda: release(finished.path, final=True)) == 0
    finished.withdraw()
    assert not finished.final.release.exists()
    assert guarded(lambda: release(finished.path, final=False)) == 0


def test_compare_shows_two_runs(
    recipe_file: Path, finished: RunFolder, capsys: Any, tmp_path: Path
) -> None:
    recipe = json.loads(recipe_file.read_text())
    recipe["lora"]["r"] = 2
    other = recipe_file.with_name("other.json")
    other.write_text(json.dumps({**recipe, "name": "tiny-r2"}))
    assert proofbox("run", other, "--runs", tmp_path).returncode in (0, 1, 3)
    folders = [finished.path, open_run(tmp_path / "tiny-r2").path]
    assert guarded(lambda: compare(folders)) == 0
    shown = capsys.readouterr().out
    assert "lora.r" in shown
    assert "test.loss" in shown


def test_same_recipe_same_adapter(
    recipe_file: Path, finished: RunFolder, tmp_path: Path, count_bytes: Callable[[Path], str]
) -> None:
    assert proofbox("run", recipe_file, "--runs", tmp_path).returncode == 0
    again = open_run(tmp_path / "tiny")
    assert again.path.name == finished.path.name
    for name in ("adapter/adapter_model.safetensors", "evaluation/adapter/loss.parquet"):
        assert count_bytes(again.path / name) == count_bytes(finished.path / name)


@pytest.fixture
def count_bytes() -> Callable[[Path], str]:
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
