"""The folder of one run: who holds it, what is finished, where each thing lies."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from runner.errors import MachineError, UsageError
from runner.stored_json import read_json, write_json

# How the folders are named in which answers outlive the process that made them.
_PARTIAL = ".partial-"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``runs/<recipe name>/<run id>/``; every path of a run in one place."""

    path: Path

    @property
    def lock(self) -> Path:
        """The resolved recipe with digests and versions."""
        return self.path / "lock.json"

    @property
    def data(self) -> Path:
        """Counts, digests and checks of the prepared data."""
        return self.path / "data.json"

    @property
    def listings(self) -> Path:
        """Rows with problems, and rows that leak between partitions, one by one."""
        return self.path / "listings"

    @property
    def quantized(self) -> Path:
        """How the base model was quantized, where the run did that; all else is about that one."""
        return self.path / "quantized.json"

    @property
    def training(self) -> Path:
        """The record of the finished training."""
        return self.path / "training.json"

    @property
    def target(self) -> Path:
        """In place of ``training``: what was judged, where it was trained elsewhere."""
        return self.path / "subject.json"

    @property
    def evaluation(self) -> Path:
        """Per-example records of the base model and the adapter."""
        return self.path / "evaluation"

    @property
    def evidence(self) -> Path:
        """What the gates judge."""
        return self.path / "evidence.json"

    @property
    def verdict(self) -> Path:
        """How the gates judged."""
        return self.path / "verdict.json"

    @property
    def adapter(self) -> Path:
        """The trained adapter."""
        return self.path / "adapter"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer as it was trained with."""
        return self.path / "tokenizer"

    @property
    def probe(self) -> Path:
        """Logits of the adapter in memory, which the adapter on disk must give again."""
        return self.path / "probe.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Where an interrupted training continues."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def timings(self) -> Path:
        """Seconds by stage."""
        return self.path / "timings.json"

    @property
    def release(self) -> Path:
        """The release, once the verdict is PASS."""
        return self.path / "release"

    @property
    def released(self) -> Path:
        """When the release was packed first."""
        return self.path / "released.json"

    @property
    def final(self) -> RunFolder:
        """The fit on all data made by ``proofbox finalize``; laid out like a run folder."""
        return RunFolder(self.path / "final")

    @property
    def recipe(self) -> Path:
        """The recipe as it was given."""
        for name in ("recipe.yaml", "recipe.json"):
            if (self.path / name).is_file():
                return self.path / name
        raise MachineError(f"{self.path}: no recipe.yaml or recipe.json in this run folder")

    def recipe_origin(self) -> Path:
        """Where the recipe lay when the run was made; its relative paths start there."""
        origin = Path(read_json(self.path / "origin.json")["recipe_file"])
        if not origin.is_file():
            raise UsageError(f"{origin}: the recipe of this run is gone. Name it with --recipe.")
        return origin

    def note_seconds(self, stage: str, seconds: float, *, keep_first: bool = False) -> None:
        """Record how long a finished stage took; ``keep_first`` keeps an earlier figure."""
        timings = read_json(self.timings) if self.timings.is_file() else {}
        if not (keep_first and stage in timings):
            write_json(self.timings, {**timings, stage: round(seconds, 3)})

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add what earlier sessions of a finished stage took."""
        if seconds:
            timings = read_json(self.timings)
            write_json(self.timings, {**timings, stage: round(timings[stage] + seconds, 3)})

    @property
    def reload(self) -> Path:
        """Proof that the adapter on disk is the one that was trained."""
        return self.path / "reload.json"

    def clear(self) -> None:
        """Forget everything but the lock file that this process holds, in one step."""
        aside = self.path.with_name(f".{self.path.name}.forgotten")
        remove(aside)
        aside.mkdir()
        # The lock goes first: without it nothing that is left counts as a run.
        for entry in sorted(self.path.iterdir(), key=lambda path: path != self.lock):
            if entry.name != "run.lock":
                entry.rename(aside / entry.name)
        remove(aside)

    def withdraw(self, *, verdict: bool = False) -> None:
        """Take back the releases and, on request, all that was concluded from evaluations."""
        concluded = (self.verdict, self.evidence, self.report) if verdict else ()
        for path in (self.release, self.released, self.final.release, *concluded):
            remove(path)

    def sweep(self) -> None:
        """Remove what a killed process left half-written, but for answers that may be used."""
        for place in (self.path, self.evaluation, self.final.path):
            for leftover in place.glob(".*") if place.is_dir() else ():
                if not leftover.name.startswith(_PARTIAL):
                    remove(leftover)

    def partial(self, subject: str, inputs: str) -> Path:
        """Where the answers of ``subject`` are kept until its evaluation of ``inputs`` is whole."""
        return self.evaluation / f"{_PARTIAL}{subject}-{inputs[:16]}"

    def remove_partial(self, subject: str, *, but: Path | None = None) -> None:
        """Remove answers that were kept for ``subject``, all ``but`` those of one evaluation."""
        for kept in self.evaluation.glob(f"{_PARTIAL}{subject}-*"):
            if kept != but:
                remove(kept)


def open_finished_run(path: Path) -> RunFolder:
    """The run folder at ``path``, as `open_run`, with evidence in it.

    Raises:
        MachineError: the run has not come to its evidence yet.
    """
    folder = open_run(path)
    if not folder.evidence.is_file():
        raise MachineError(
            f"{folder.path}: this run is not finished. `proofbox run` with its recipe continues it."
        )
    return folder


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there. A folder is renamed first: never half a folder."""
    if path.is_dir() and not path.name.startswith("."):
        hidden = path.with_name(f".{path.name}.{os.getpid()}.removed")
        shutil.rmtree(hidden, ignore_errors=True)
        try:
            path = path.rename(hidden)
        except FileNotFoundError:  # another process was faster
            return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_run(path: Path) -> RunFolder:
    """The run folder at ``path``, or the only run inside it; anything else is a usage error."""
    if (path / "SHA256SUMS").is_file():
        raise UsageError(f"{path}: this is a release, not a run folder")
    if (path / "lock.json").is_file():
        return RunFolder(path)
    if not path.is_dir():
        raise UsageError(
            f"{path}: no such run folder. Runs are under runs/<recipe name>/<run id>/."
        )
    runs = sorted(p.parent for p in path.glob("*/lock.json"))
    # Planned but never run folders do not count where there is a run with results.
    runs = [run for run in runs if RunFolder(run).evidence.is_file()] or runs
    if len(runs) == 1:
        return RunFolder(runs[0])
    if not runs:
        raise UsageError(f"{path}: not a run folder (it has no lock.json), and holds none")
    names = ", ".join(run.name for run in runs)
    raise UsageError(f"{path}: holds {len(runs)} runs ({names}). Name one of them.")


@contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder for this process; a second holder is told who has it.

    Raises:
        MachineError: another process holds it, or the folder cannot be written.
    """
    with _lock_file(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise MachineError(_held_message(folder, file.read())) from None
        file.truncate(0)
        file.write(json.dumps(_holder()))
        file.flush()
        yield


def _lock_file(folder: RunFolder) -> TextIO:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        return (folder.path / "run.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise MachineError(
            f"{folder.path}: the run folder cannot be written ({error.strerror}). "
            "Choose another place with --runs."
        ) from None


def _holder() -> dict[str, Any]:
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started}


def _held_message(folder: RunFolder, text: str) -> str:
    try:
        holder = json.loads(text)
        who = "process {pid} on {host}, since {started}".format(**holder)
    except (json.JSONDecodeError, KeyError, TypeError):
        who = "another process"
    return (
        f"{folder.path}: this run is being worked on by {who}. "
        "Wait for it, stop it, or give the recipe another name."
    )
