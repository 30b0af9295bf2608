"""A recipe released, then its next adapter compared with that release; and looks counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evalsuite.ledger import read_ledger
from evalsuite.record_files import read_evidence, read_verdict
from runner.cli import guarded
from runner.commands.gate import gate
from runner.commands.verify import verify
from runner.run_folder import RunFolder
from tests.test_end_to_end import proofbox

AGAINST_RELEASE = {
    "metric": "test.loss", "claim": "non_inferior", "margin": 0.5, "against": "release",
    "first_release": "allow",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture(scope="module")
def recipe(project: Path, tiny_model_folder: Path) -> dict[str, Any]:
    rows = [{"instruction": f"Add {n} to x.", "input": "", "output": f"x + {n}"} for n in range(60)]
    (project / "rows.json").write_text(json.dumps(rows))
    return {
        "version": 1,
        "name": "tiny",
        "dataset": {
            "source": "rows.json",
            "partition": {"by": "position", "train": 0.5, "validation": 0.1, "test": 0.4},
        },
        "model": {"base": str(tiny_model_folder), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8, "target_modules": "all-linear"},
        "training": {"max_steps": 20, "batch_size": 8, "learning_rate": 0.02},
        "evaluation": {
            "loss": ["test"],
            "generation": [
                {"name": "answers", "limit": 4, "decoding": {"max_new_tokens": 6},
                 "metrics": ["exact_match", "chrf"]}
            ],
            "instrument_check": 8,
        },
        "gates": [{"metric": "test.loss", "claim": "superior"}, AGAINST_RELEASE],
        "hardware": {"device": "cpu", "threads": 1},
    }  # fmt: skip


def run(project: Path, recipe: dict[str, Any], code: int, *more: str) -> tuple[RunFolder, str]:
    path = project / "tiny.json"
    path.write_text(json.dumps(recipe))
    done = proofbox("run", path, "--runs", project / "runs", *more)
    assert done.returncode == code, done.stdout + done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("tiny, run "))
    return RunFolder(project / "runs" / "tiny" / line.split()[2].rstrip(":")), done.stderr


@pytest.fixture(scope="module")
def first(project: Path, recipe: dict[str, Any]) -> RunFolder:
    folder, said = run(project, recipe, 0)
    assert "nothing of this recipe is released yet" in said
    return folder


@pytest.fixture(scope="module")
def second(project: Path, recipe: dict[str, Any], first: RunFolder) -> RunFolder:
    folder, said = run(project, {**recipe, "seed": 2}, 0)
    assert f"compared with the release of run {first.path.name}" in said
    return folder


def test_a_first_release_is_allowed_by_the_recipe_and_not_by_default(
    project: Path, recipe: dict[str, Any], first: RunFolder
) -> None:
    of_release = read_verdict(first.verdict).gates[1]
    assert of_release.verdict == "PASS"
    assert "allows a first release" in of_release.reason
    assert read_evidence(first.evidence).release is None
    strict = [recipe["gates"][0], {**AGAINST_RELEASE, "first_release": "inconclusive"}]
    copy = RunFolder(project / "copies" / "tiny" / first.path.name)
    shutil.copytree(first.path, copy.path)
    other = project / "copies" / "strict.json"
    other.write_text(json.dumps({**recipe, "gates": strict}))
    # Other gates are another look; this one is noted in a ledger of its own.
    (copy.path / "origin.json").write_text(json.dumps({"recipe_file": str(other)}))
    assert guarded(lambda: gate(copy.path, recipe=str(other))) == 3


def test_the_next_adapter_is_compared_with_the_release(first: RunFolder, second: RunFolder) -> None:
    evidence = read_evidence(second.evidence)
    assert evidence.release is not None
    assert evidence.release.run_id == first.path.name
    assert evidence.release.refused == ()
    released = evidence.measurement("test.loss", "release")
    own = read_evidence(first.evidence).measurement("test.loss", "adapter")
    assert released is not None and own is not None
    assert released.value == own.value
    against = read_verdict(second.verdict).gates[1]
    assert (against.verdict, against.base) == ("PASS", released.value)
    assert (second.release / "evaluation" / "release" / "loss.parquet").is_file()


def test_a_release_that_was_compared_is_verified_from_its_own_files(second: RunFolder) -> None:
    assert guarded(lambda: verify(second.release, key=None)) == 0


def test_what_was_released_before_is_part_of_what_is_verified(
    second: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = tmp_path / "release"
    shutil.copytree(second.release, release)
    other = second.evaluation / "base" / "loss.parquet"
    shutil.copy2(other, release / "evaluation" / "release" / "loss.parquet")
    assert guarded(lambda: verify(release, key=None)) == 1
    assert "by the per-example records in evaluation/" in capsys.readouterr().err


def test_run_again_it_is_judged_as_before(
    project: Path, recipe: dict[str, Any], first: RunFolder, second: RunFolder
) -> None:
    """The first adapter is not judged by its successor, and neither look is counted twice."""
    before = [folder.evidence.read_bytes() for folder in (first, second)]
    ledger = (project / "proofbox.ledger.jsonl").read_bytes()
    assert run(project, recipe, 0)[0] == first
    assert run(project, {**recipe, "seed": 2}, 0)[0] == second
    assert [folder.evidence.read_bytes() for folder in (first, second)] == before
    assert (project / "proofbox.ledger.jsonl").read_bytes() == ledger


def test_looks_are_counted_beside_the_recipe(
    project: Path, first: RunFolder, second: RunFolder
) -> None:
    looks = read_ledger(project / "proofbox.ledger.jsonl")
    assert {(look.run_id, look.partition, look.verdict) for look in looks} == {
        (folder.path.name, "test", "PASS") for folder in (first, second)
    }
    counts = [read_verdict(folder.verdict).looks for folder in (first, second)]
    assert [(found.group, found.count) for (found,) in counts] == [("test", 1), ("test", 2)]
    assert "look 2 at test" in second.report.read_text(encoding="utf-8")


def test_the_instrument_was_measured_on_the_base(second: RunFolder) -> None:
    floors = {found.metric: found for found in read_evidence(second.evidence).instrument}
    assert 0.0 <= floors["test.loss"].floor < 1e-5
    assert floors["test.loss"].examples == 8
    assert floors["answers.chrf"].differing == 0


def test_other_rows_or_decoding_are_refused_by_name(
    project: Path, recipe: dict[str, Any], second: RunFolder
) -> None:
    """A release that was measured otherwise: the task that differs is an error, with its reason."""
    changed = json.loads(json.dumps({**recipe, "seed": 2}))
    changed["evaluation"]["generation"][0]["decoding"]["max_new_tokens"] = 7
    gates = [
        changed["gates"][0],
        {"metric": "answers.chrf", "claim": "non_inferior", "margin": 50, "against": "release"},
        {"metric": "test.loss", "claim": "non_inferior", "margin": 0.5, "against": "release"},
    ]
    folder, _ = run(project, {**changed, "gates": gates}, 4)
    assert folder == second
    found = {result.gate.metric: result for result in read_verdict(folder.verdict).gates[1:]}
    assert found["answers.chrf"].verdict == "ERROR"
    assert "last release and adapter differ in decoding" in found["answers.chrf"].reason
    assert found["test.loss"].verdict == "PASS"
    assert not folder.release.exists()


def test_a_named_release_must_be_one(project: Path, recipe: dict[str, Any]) -> None:
    path = project / "tiny.json"
    path.write_text(json.dumps(recipe))
    elsewhere = ("--runs", project / "runs", "--previous", project)
    done = proofbox("run", path, *elsewhere)
    assert done.returncode == 2
    assert "no release to compare with" in done.stderr
    assert "prepar" not in done.stderr  # told before any work
    path.write_text(json.dumps({**recipe, "gates": recipe["gates"][:1]}))
    done = proofbox("run", path, *elsewhere)
    assert done.returncode == 2
    assert "no gate of this recipe compares with a release" in done.stderr


def test_a_damaged_ledger_stops_a_run_before_it_begins(
    project: Path, recipe: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("rows.json",):
        shutil.copy2(project / name, tmp_path / name)
    (tmp_path / "proofbox.ledger.jsonl").write_text("<<<<<<< HEAD\n")
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(recipe))
    done = proofbox("run", path, "--runs", tmp_path / "runs")
    assert done.returncode == 4
    assert "proofbox.ledger.jsonl:1: is no entry of the ledger" in done.stderr
    assert not list((tmp_path / "runs").rglob("training.json"))
