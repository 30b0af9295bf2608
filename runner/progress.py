"""What a user sees while a run works: bars on a terminal, plain lines elsewhere, all in run.log.

Messages hold names and values of files; nothing of them can make a terminal do anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from runner.inert_text import inert

# Seconds between two plain lines of one stage where there is no terminal.
PLAIN_INTERVAL = 15.0
Advance = Callable[[int, int, str], None]


class Progress:
    """Announcements and bars of one process."""

    def __init__(self, log: Path | None = None, console: Console | None = None) -> None:
        """Write to ``console`` (standard error if None) and append to ``log``."""
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.log = log

    def announce(self, text: str) -> None:
        """One line that a reader should not miss."""
        self.console.print(inert(text), markup=False, emoji=False)
        self._append(text)

    def note(self, text: str) -> None:
        """One line for run.log alone."""
        self._append(text)

    @contextmanager
    def bar(self, title: str) -> Iterator[Advance]:
        """A bar called with (done, total, text); a plain line now and then without a terminal."""
        if self.console.is_terminal:
            with _rich_bar(self.console) as rich:
                task = rich.add_task(title, total=None, note="")
                yield lambda done, total, text: rich.update(
                    task, completed=done, total=total or None, note=text
                )
        else:
            yield PlainLines(title, self.announce)

    def _append(self, text: str) -> None:
        if self.log is None:
            return
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {inert(text)}\n")


class PlainLines:
    """A bar for logs and CI: a line at most every ``PLAIN_INTERVAL`` seconds."""

    def __init__(self, title: str, announce: Callable[[str], None]) -> None:
        """Start the clock."""
        self.title = title
        self.announce = announce
        self.last = time.monotonic()

    def __call__(self, done: int, total: int, text: str) -> None:
        """Announce, if it is time to."""
        now = time.monotonic()
        if now - self.last >= PLAIN_INTERVAL and (done < total or not total):
            self.last = now
            of = f" of {total:,}" if total else ""
            self.announce(f"  {self.title}: {done:,}{of} {text}".rstrip())


def _rich_bar(console: Console) -> RichProgress:
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("·"),
        TimeRemainingColumn(),
        TextColumn("left"),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
    )


def print_error(text: str) -> None:
    """A user's error on standard error: no markup, no traceback, no wrapping, no controls."""
    sys.stderr.write(inert(text.rstrip("\n")) + "\n")
