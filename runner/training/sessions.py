"""How long a training took by the clock, over all processes that worked on it.

A process that is killed says nothing at its end, so each notes now and then how far it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.stored_json import read_json, write_json

FILE = "sessions.json"
BEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One process's share: from after ``first`` to after ``last`` steps, in ``seconds``.

    The steps that a killed process made after its last checkpoint are made again by the next one;
    their time counts in both.
    """

    first: int
    last: int
    seconds: float


class SessionClock:
    """Notes the present session beside those before it, in ``folder`` (that of checkpoints)."""

    def __init__(self, folder: Path, *, first: int, notes: bool = True) -> None:
        """Start the clock of a session that continues after ``first`` steps."""
        self.file = folder / FILE
        self.notes = notes
        self.earlier = stored_sessions(folder)
        self.first = first
        self.last = first
        self._started = time.monotonic()
        self._noted = self._started

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All sessions, the present one last."""
        seconds = round(time.monotonic() - self._started, 3)
        return (*self.earlier, Session(first=self.first, last=self.last, seconds=seconds))

    def beat(self, step: int) -> None:
        """After ``step`` steps: note it, if the last note is some seconds old."""
        self.last = step
        now = time.monotonic()
        if now - self._noted >= BEAT_SECONDS:
            self.note()
            self._noted = now

    def note(self) -> None:
        """Write the sessions down."""
        if not self.notes:
            return
        write_json(self.file, [asdict(session) for session in self.sessions])


@contextmanager
def session(folder: Path, *, first: int, notes: bool = True) -> Iterator[SessionClock]:
    """The clock of a session; noted also where it ends in an error or by Ctrl-C.

    ``notes``: whether this process, of those that train together, is the one that writes.
    """
    clock = SessionClock(folder, first=first, notes=notes)
    try:
        yield clock
    finally:
        clock.note()


def stored_sessions(folder: Path) -> tuple[Session, ...]:
    """The sessions that were noted in ``folder``; none where nothing was."""
    file = folder / FILE
    return tuple(Session(**entry) for entry in read_json(file)) if file.is_file() else ()
