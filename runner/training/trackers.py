"""Experiment trackers: what each needs installed, and one run followed in all that a recipe names.

An interrupted run continues in the same place: ``trackers.json`` of the run folder remembers it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Protocol

from runner.errors import MachineError
from runner.stored_json import read_json, write_json

if TYPE_CHECKING:
    from transformers import TrainerCallback

# Name in a recipe, which is also that of its package -> "module:attribute" of its class.
TRACKERS = {
    "tensorboard": "runner.training.tracker_runs:TensorBoardRun",
    "wandb": "runner.training.tracker_runs:WandbRun",
    "mlflow": "runner.training.tracker_runs:MlflowRun",
    "trackio": "runner.training.tracker_runs:TrackioRun",
}
_OWN = ("tensorboard",)  # comes with proofbox; all others are extras
FILE = "trackers.json"
_VERDICT = "verdict"  # key of that file: the digest of the verdict that was told last


def missing_trackers(names: Sequence[str]) -> list[str]:
    """A sentence for each tracker that is not installed here, with the command that installs it."""
    return [
        f"training.trackers: {name} is not installed here: pip install "
        + (name if name in _OWN else f"'proofbox[{name}]'")
        for name in names
        if find_spec(name) is None
    ]


def check_trackers(names: Sequence[str]) -> None:
    """Refuse before any work what could not be logged.

    Raises:
        MachineError: a package is missing.
    """
    missing = missing_trackers(names)
    if missing:
        raise MachineError("\n".join(missing))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run.

    ``name`` is for people. ``identity`` is what the tracker itself knows the run by, None before
    it is known; ``after`` is the optimizer step that is continued from, 0 at the beginning.
    """

    name: str
    identity: str | None
    recipe: Mapping[str, Any]
    folder: Path
    after: int = 0

    def fresh_identity(self) -> str:
        """Begins with the run id; the rest sets a run that was started over apart."""
        return f"{self.folder.name}-{os.urandom(3).hex()}"


class Tracker(Protocol):
    """One run in one tracker. What is given to ``place`` and ``identity`` is fixed once open."""

    identity: str | None
    place: str

    def callback(self) -> TrainerCallback:
        """Logs what the trainer logs."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log further values of an optimizer step."""

    def conclude(self, verdict: str, figures: Mapping[str, float], step: int) -> None:
        """Log what the run came to."""

    def close(self, *, status: str) -> None:
        """Send what is left. ``status``: FINISHED, FAILED or KILLED (by Ctrl-C)."""


class Trackers:
    """All trackers that a recipe names, as one."""

    def __init__(self, opened: Mapping[str, Tracker]) -> None:
        """``opened`` by name; none where the recipe names none."""
        self.opened = opened

    @property
    def callbacks(self) -> list[TrainerCallback]:
        """For the trainer."""
        return [tracker.callback() for tracker in self.opened.values()]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log further values of an optimizer step in each."""
        for tracker in self.opened.values():
            tracker.log(values, step)


@contextmanager
def tracked(
    names: Sequence[str],
    recipe: Mapping[str, Any],
    folder: Path,
    *,
    after: int,
    announce: Callable[[str], None],
) -> Iterator[Trackers]:
    """The trackers ``names`` of the run in ``folder``, open until training ends, however it ends.

    ``recipe`` is logged as it is; ``after`` is the step that training continues from.

    Raises:
        MachineError: a tracker cannot be reached, or nobody is logged in to it.
    """
    opened: dict[str, Tracker] = {}
    status = "FAILED"
    try:
        for name in names:
            opened[name] = _open(name, recipe, folder, after)
            announce(f"  {name}: {opened[name].place}")
        yield Trackers(opened)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        with redirect_stdout(sys.stderr):
            for tracker in opened.values():
                tracker.close(status=status)


def conclude(
    names: Sequence[str],
    recipe: Mapping[str, Any],
    folder: Path,
    *,
    verdict: str,
    digest: str,
    figures: Mapping[str, float],
    step: int,
    announce: Callable[[str], None],
) -> None:
    """Log verdict and figures in the trackers that followed the training, once for each verdict.

    ``digest`` tells verdicts apart. A tracker that fails now costs no verdict: it is announced.
    """
    stored = _stored(folder)
    if not stored or stored.get(_VERDICT) == digest:
        return
    told = True
    for name in (name for name in names if name in stored):
        try:
            with redirect_stdout(sys.stderr):
                tracker = _open(name, recipe, folder, step)
                tracker.conclude(verdict, figures, step)
                tracker.close(status="FINISHED")
        except MachineError as error:
            told = False
            announce(f"  the verdict is not in {name}: {error}")
    if told:
        _remember(folder, _VERDICT, digest)


def _open(name: str, recipe: Mapping[str, Any], folder: Path, after: int) -> Tracker:
    kind: Callable[[TrackedRun], Tracker] = resolve_name(TRACKERS[name])
    run = TrackedRun(
        name=_name(recipe, folder),
        identity=_stored(folder).get(name),
        recipe=recipe,
        folder=folder,
        after=after,
    )
    with redirect_stdout(sys.stderr):
        tracker = kind(run)
    _remember(folder, name, tracker.identity)
    return tracker


def _name(recipe: Mapping[str, Any], folder: Path) -> str:
    """``quickstart 4be1c07a92d3``; the fit on all data lies below its run and is called final."""
    final = folder.name == "final"
    return (
        f"{recipe['name']} {folder.parent.name} final"
        if final
        else (f"{recipe['name']} {folder.name}")
    )


def _stored(folder: Path) -> dict[str, Any]:
    file = folder / FILE
    found: dict[str, Any] = read_json(file) if file.is_file() else {}
    return found


def _remember(folder: Path, key: str, value: str | None) -> None:
    stored = _stored(folder)
    if key not in stored or stored[key] != value:
        write_json(folder / FILE, {**stored, key: value})
