"""One run, as its folder tells it: everything that a report or a comparison reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from evalsuite.errors import EvaluationError
from evalsuite.record_files import read_evidence, read_verdict
from evalsuite.records import Evidence, Subject, Verdict
from reports.errors import ReportError
from reports.run_records import (
    Lock,
    OutsideSubject,
    PreparedData,
    SampleAnswer,
    SubjectSummary,
    Training,
)

# The order of the path, which a JSON file with sorted keys does not keep. The stage "report" is
# left out: it ends after the report is written, and would make the second report differ.
STAGES = ("prepare", "quantize", "evaluate base", "train", "evaluate adapter")

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """The records of a run folder. ``name`` is ``<recipe name>/<run id>``.

    ``training`` is None where ``outside`` says what was judged: it was trained elsewhere.
    """

    folder: Path
    name: str
    recipe_file: str
    recipe_text: str
    lock: Lock
    data: PreparedData
    training: Training | None
    outside: OutsideSubject | None
    evidence: Evidence
    verdict: Verdict
    timings: tuple[tuple[str, float], ...]

    @property
    def recipe_name(self) -> str:
        """Name of the recipe."""
        return str(self.lock.recipe["name"])

    @property
    def short_name(self) -> str:
        """The run id, cut to what a table has room for."""
        return self.lock.run_id[:12]

    @property
    def adapter_digest(self) -> str:
        """Digest of what was judged."""
        if self.training is not None:
            return self.training.adapter_digest
        return self.outside.digest if self.outside is not None else ""

    def results(self, subject: Subject) -> Path:
        """The folder with the per-example results of ``subject``."""
        return self.folder / "evaluation" / subject

    def samples(self, subject: Subject) -> tuple[SampleAnswer, ...]:
        """Answers to the recipe's ``samples``; none where the recipe has none."""
        path = self.results(subject) / "samples.json"
        return _read(path, tuple[SampleAnswer, ...]) if path.is_file() else ()

    def code_runs_in(self, task: str) -> str | None:
        """Backend, version and limits of the code of a task's answers; None where none was run."""
        path = self.results("adapter") / "summary.json"
        tasks = _read(path, SubjectSummary).generation if path.is_file() else {}
        return tasks[task].code_execution if task in tasks else None


def read_run(folder: Path) -> StoredRun:
    """Read a finished run.

    Raises:
        ReportError: a record is missing, damaged or lacks a key; the message names it.
    """
    if not (folder / "lock.json").is_file():
        raise ReportError(
            f"{folder}: not a run folder (it has no lock.json). "
            "Runs are under runs/<recipe name>/<run id>/."
        )
    lock = _read(folder / "lock.json", Lock)
    recipe_file = _recipe_file(folder)
    evidence, verdict = _read_judgement(folder)
    outside = folder / "subject.json"
    trained_here = not outside.is_file()
    return StoredRun(
        folder=folder,
        name=f"{lock.recipe['name']}/{lock.run_id}",
        recipe_file=recipe_file.name,
        recipe_text=recipe_file.read_text(encoding="utf-8"),
        lock=lock,
        data=_read(folder / "data.json", PreparedData),
        training=_read(folder / "training.json", Training) if trained_here else None,
        outside=None if trained_here else _read(outside, OutsideSubject),
        evidence=evidence,
        verdict=verdict,
        timings=_timings(folder / "timings.json"),
    )


def read_final_training(folder: Path) -> Training:
    """The training record of the fit on all data, below ``final/`` of a run folder.

    Raises:
        ReportError: there is none, or it is damaged.
    """
    return _read(folder / "final" / "training.json", Training)


def _recipe_file(folder: Path) -> Path:
    for name in ("recipe.yaml", "recipe.json"):
        if (folder / name).is_file():
            return folder / name
    raise ReportError(f"{folder}: no recipe.yaml or recipe.json in this run folder")


def _read_judgement(folder: Path) -> tuple[Evidence, Verdict]:
    try:
        return read_evidence(folder / "evidence.json"), read_verdict(folder / "verdict.json")
    except EvaluationError as error:
        raise ReportError(str(error)) from None


def _timings(path: Path) -> tuple[tuple[str, float], ...]:
    found = _read(path, dict[str, float])
    return tuple((stage, found[stage]) for stage in STAGES if stage in found)


def _read(path: Path, kind: type[_Record]) -> _Record:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ReportError(
            f"{path}: this file is missing; the run is not finished. "
            "`proofbox run` with its recipe continues it."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise ReportError(f"{path}: {key}: {first['msg']}. Run the recipe again.") from None
